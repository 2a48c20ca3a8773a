"""Interval bound propagation (Gowal et al. 2018): what every value of a network can be over all images of a ball."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from robusteval.certify.propagation.ball import InputBall, largest_change
from robusteval.certify.propagation.curve_relaxation import enclosed
from robusteval.certify.propagation.curves import Curve
from robusteval.certify.propagation.graph import Graph
from robusteval.certify.propagation.ops import Add, Affine, Max, Reshape, Scale
from robusteval.certify.propagation.relaxation import relaxed
from robusteval.certify.propagation.values import Interval, Known
from robusteval.certify.propagation.weighted import Conv2d, Linear
from robusteval.core import memory
from robusteval.core.norms import Norm

AT_ONCE = 2**22
"""Numbers that the windows of a first layer are laid out in at a time, 32 MiB."""

Tighten = Callable[[list[Known], int], Interval]
"""From what is known of the values up to value k: an interval of that, no wider than the one known."""


def propagated(graph: Graph, ball: InputBall, tighten: Tighten | None = None) -> list[Known]:
    """What is known of every value of the graph, for all images of the ball."""
    zero = torch.zeros_like(ball.x)
    known = [Known(Interval(*ball.sides()), zero, zero, zero[:, 0, 0, 0])]
    images = {0: _Image(ball.x, torch.ones_like(ball.x[:1]), zero)}
    for k, node in enumerate(graph.nodes[1:], 1):
        op, taken = node.op, [known[j].interval for j in node.inputs]
        if isinstance(op, Max):
            known.append(relaxed(op, taken[0], graph.precision))
            continue
        if isinstance(op, Curve):
            known.append(enclosed(op, taken[0], graph.precision))
            continue
        assert isinstance(op, Affine)
        slack = rounding(graph, k, taken)
        image = images.get(node.inputs[0])
        if image is not None and isinstance(op, Linear | Conv2d) and ball.norm is not Norm.LINF:
            interval = _first(op, ball, image, slack)
        else:
            interval = _through(op, taken, slack)
        if isinstance(op, Add) and graph.bent(k):
            interval = interval.met(_bent(op, taken[0], slack))
        if image is not None and isinstance(op, Scale | Reshape):
            images[k] = image.through(op, slack)
        bias = torch.zeros_like(slack) if op.bias is None else op.bias
        faint = graph.precision.underflow(op.fan_out, [x.size for x in taken])
        known.append(Known(interval, bias - slack, bias + slack, faint))
        if tighten is not None:
            known[k] = replace(known[k], interval=tighten(known, k))
    return known


def rounding(graph: Graph, k: int, taken: list[Interval]) -> Tensor:
    """The allowance of an affine layer whose inputs lie in the intervals `taken`, (M, C, H, W)."""
    op = graph.nodes[k].op
    assert isinstance(op, Affine)
    size = op.absolute().apply(*(interval.size for interval in taken))
    if op.bias_size is not None:
        size = size + op.bias_size
    return graph.precision.allowance(op, size)


def _through(op: Affine, taken: list[Interval], slack: Tensor) -> Interval:
    centre = op.output(*((interval.lower + interval.upper) / 2 for interval in taken))
    radius = op.absolute().apply(*((interval.upper - interval.lower) / 2 for interval in taken)) + slack
    return Interval(centre - radius, centre + radius)


def _bent(op: Add, taken: Interval, slack: Tensor) -> Interval:
    """a x + b max(x, 0) is highest and lowest at the ends of an interval, or at 0 within it."""
    ends = [op.apply(x, x.clamp_min(0)) for x in (taken.lower, taken.upper)]
    inside = (taken.lower < 0) & (taken.upper > 0)
    values = torch.stack([*ends, torch.where(inside, 0.0, ends[0])])
    return Interval(values.amin(0) - slack, values.amax(0) + slack)


@dataclass(frozen=True, eq=False)
class _Image:
    """A value that is the image x itself, entry by entry: gain * x + shift, and `pad` for what rounding added.

    value (M, C, H, W) is that of the images, gain (1, C, H, W).
    """

    value: Tensor
    gain: Tensor
    pad: Tensor

    def through(self, op: Scale | Reshape, slack: Tensor) -> _Image:
        return _Image(op.output(self.value), op.apply(self.gain), op.absolute().apply(self.pad) + slack)


def _first(op: Linear | Conv2d, ball: InputBall, image: _Image, slack: Tensor) -> Interval:
    """A first layer, whose outputs are linear in the pixels: their exact range over ball and box, and the rounding."""
    centre = op.output(image.value)
    slack = slack + op.absolute().apply(image.pad)
    # (1, groups, outputs, windows, inputs of a window), and the pixels' room (M, groups, 1, windows, ...).
    rows = (op.kernel[..., None] * op.windows(image.gain)[:, :, None]).movedim(-2, -1)
    x = ball.x.reshape(-1, *image.value.shape[1:])
    ends = []
    together = memory.rows(AT_ONCE, rows.numel())
    for some, eps in zip(x.split(together), ball.eps.split(together), strict=True):
        down, up = (op.windows(room)[:, :, None].movedim(-2, -1) for room in (some, 1 - some))
        wide = eps.reshape(-1, 1, 1, 1)
        rise, fall = (largest_change(sign * rows, down, up, wide, ball.norm) for sign in (1, -1))
        ends.append((fall.reshape(-1, *centre.shape[1:]), rise.reshape(-1, *centre.shape[1:])))
    fall, rise = map(torch.cat, zip(*ends, strict=True))
    return Interval(centre - fall - slack, centre + rise + slack)


def rounding_errors(graph: Graph, known: list[Known]) -> Tensor:
    """How far rounding can take each logit from what the network is in real numbers, (M, K), anywhere in the ball."""
    errors = [torch.zeros_like(known[0].below)]
    for k, node in enumerate(graph.nodes[1:], 1):
        taken = [errors[j] for j in node.inputs]
        if isinstance(node.op, Max):
            errors.append(node.op.apply(taken[0]))
        elif isinstance(node.op, Curve):
            taken_size, size = known[node.inputs[0]].interval.size, known[k].interval.size
            reach = node.op.error(size, taken_size, graph.dtype)
            errors.append(node.op.steepest * taken[0] + reach)
        else:
            assert isinstance(node.op, Affine)
            slack = rounding(graph, k, [known[j].interval for j in node.inputs])
            errors.append(node.op.absolute().apply(*taken) + slack)
    # With room for the rounding of this sum, a part of which the slack holds already.
    return 1.0001 * errors[-1].flatten(1)
