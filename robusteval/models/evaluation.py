"""One evaluation of a network, booked: for which images, what it answered, and the time of all its passes."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import redirect_stdout

import torch
from torch import Tensor

from robusteval.models.answers import answered
from robusteval.models.meter import Meter


def evaluated(
    name: str, network: Callable[[Tensor], Tensor], pixels: Tensor, meter: Meter, rows: Tensor, averaged: int
) -> Tensor:
    """What a network says of pixels (M, C, H, W), booked to the images `rows` of the meter, `averaged` times each.

    Every pass is timed: from the pixels to the output, back, and back through that. Rows that are not finite are
    counted. Raises RuntimeError where there is not one row an image, or where the network ends the program.
    """
    device = pixels.device
    # An alias of its own: its gradient is where this call's pass back ends, whatever else is done with the pixels.
    own = pixels[...] if torch.is_grad_enabled() and pixels.requires_grad else pixels
    meter.stopwatch.start(device)
    output = _answer(name, network, own)
    meter.stopwatch.stop()
    count = len(output) * averaged
    meter.add(meter.forwards, rows, count)
    if not (finite := answered(output.detach())).all():
        meter.mark(meter.non_finite_answers, rows, ~finite)

    # A pass back through the backward pass goes forward through the layers: J v out of J^T u.
    def back_begins(gradient: Tensor) -> None:
        meter.add(meter.backwards, rows, count)
        if gradient.requires_grad:
            gradient.register_hook(through_ends)
        meter.stopwatch.start(device)

    def back_ends(gradient: Tensor | None) -> None:
        meter.stopwatch.stop()
        # A layer that lets no gradient through may give none at all.
        if gradient is not None and gradient.requires_grad:
            gradient.register_hook(through_begins)

    def through_begins(_: Tensor) -> None:
        meter.stopwatch.start(device)

    def through_ends(_: Tensor) -> None:
        meter.stopwatch.stop()
        meter.add(meter.forwards, rows, count)

    if output.requires_grad:
        output.register_hook(back_begins)
        if own is not pixels:
            own.register_hook(back_ends)
    return output


def _answer(name: str, network: Callable[[Tensor], Tensor], pixels: Tensor) -> Tensor:
    """What a network prints is none of the program's output, and its sys.exit is an error like any other."""
    try:
        with redirect_stdout(sys.stderr):
            output = network(pixels)
    except SystemExit as error:
        raise RuntimeError(f"{name} called sys.exit({error.code})") from error
    if len(output) != len(pixels):
        raise RuntimeError(f"expected {len(pixels)} rows of logits from {name}, got {len(output)}")
    return output.clone() if output.is_inference() else output
