"""What an audit will run and what that may cost, before it runs.

Passes are as the methods declare them, the time of one is measured.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from robusteval.auditing.hardware import DTYPES, best_throughput
from robusteval.auditing.plan import plan
from robusteval.auditing.protocol import Protocol
from robusteval.auditing.request import asked_images, check_asked_size
from robusteval.core.device import choose_device
from robusteval.core.errors import UserError
from robusteval.core.images import Images
from robusteval.core.passes import Passes
from robusteval.models.averaged import averaged
from robusteval.models.classifier import Classifier
from robusteval.results.manifest import MOST_AVERAGED

ENOUGH = 0.2
"""Seconds in which a pass is repeated."""


@dataclass(frozen=True)
class StageForecast:
    """A stage, the image evaluations that it is expected to take, and the seconds of these; None where its work is not
    of passes, as in proofs, or nobody can say. Seconds are 0 for a stage that cannot run here."""

    name: str
    title: str
    passes: Passes | None
    seconds: float | None


@dataclass(frozen=True)
class Forecast:
    """An ESTIMATE of an audit. Passes are those of images that no attack breaks: broken ones leave early. Seconds are
    those of the model's passes at this batch size alone; what the methods compute besides comes on top.

    forward_seconds, backward_seconds: an image's in a batch of this size, measured; NaN where the model answers not.
    """

    model: str
    images: int
    batch_size: int
    forward_seconds: float
    backward_seconds: float
    stages: tuple[StageForecast, ...]

    @property
    def passes(self) -> Passes:
        """Of all stages of which they are known."""
        return sum((stage.passes for stage in self.stages if stage.passes is not None), Passes())

    @property
    def seconds(self) -> float:
        """Of the same."""
        return sum(stage.seconds for stage in self.stages if stage.seconds is not None)

    @property
    def unknown(self) -> tuple[str, ...]:
        """The stages of which nobody can say what they take."""
        return tuple(stage.name for stage in self.stages if stage.seconds is None)


def forecast(
    classifier: Classifier,
    images: Images,
    protocol: Protocol,
    sources: Sequence[Classifier] = (),
    *,
    device: str = "auto",
    dtype: str = "float32",
    batch_size: int | str = "auto",
    eot: int = 1,
) -> Forecast:
    """What run_audit with the same arguments will run, and what it may cost. Runs nothing but a few passes of the
    model. Raises UserError for what does not fit together, as run_audit does."""
    if dtype not in DTYPES:
        raise UserError(f"expected --dtype {' or '.join(DTYPES)}, got '{dtype}'")
    on, precision = choose_device(device), DTYPES[dtype]
    images, protocol = asked_images(classifier, sources, images, protocol)
    check_asked_size(batch_size)
    placed = averaged(classifier.to(on, precision), min(max(eot, 1), MOST_AVERAGED))
    size = batch_size if isinstance(batch_size, int) else best_throughput(placed, on, precision).batch_size
    pixels = images.first(size).to(on, precision).pixels
    forward, backward = pass_seconds(placed, pixels)

    def costs(passes: Passes) -> float:
        return passes.forward * forward + passes.backward * backward if passes.backward else passes.forward * forward

    stages = []
    for stage in plan(protocol, sources):
        passes = Passes() if stage.unavailable else stage.passes(len(images), classifier.num_classes)
        title = stage.record().title
        stages.append(StageForecast(stage.name, title, passes, None if passes is None else costs(passes)))
    return Forecast(classifier.name, len(images), size, forward, backward, tuple(stages))


def pass_seconds(classifier: Classifier, pixels: torch.Tensor) -> tuple[float, float]:
    """Seconds of a forward and of a backward pass of one of these images (M, C, H, W), evaluated together; NaN for what
    the model does not do."""
    forward = _seconds(lambda: classifier.predict(pixels).sum().item())
    gradient = _seconds(lambda: classifier.gradient(pixels, lambda logits: logits[:, 0])[0].sum().item())
    return forward / len(pixels), max(gradient - forward, 0.0) / len(pixels)


def _seconds(action: Callable[[], object]) -> float:
    """Of a call, the mean of several after the first, since what else the machine does will slow the audit, too; NaN
    where it raises: the audit will meet that, and tell."""
    try:
        began = time.perf_counter()
        action()
        taken, calls = time.perf_counter() - began, 1
        if taken < ENOUGH:
            taken, calls, began = 0.0, 0, time.perf_counter()
            while taken < ENOUGH:
                action()
                taken, calls = time.perf_counter() - began, calls + 1
    except Exception:
        return float("nan")
    return taken / calls
