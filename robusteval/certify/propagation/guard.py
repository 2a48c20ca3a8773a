"""The guard of a graph: the network has to answer as its layers do, number by number, to the last allowed rounding.

Layer by layer, so that no error is carried on and the allowance does not grow with depth: the program is run as torch
runs it, and what it computed of a layer is held against the layer of the graph at what it computed of the layer's
inputs. With u the unit roundoff of the network and r the roundings of a term (rounding.py, Eq. 1)

    |computed - (W x + b)|  <=  (gamma_r(u) + gamma_r(2^-53)) (|W| |x| + |b|) + 4 r tiny                           (1)

the second gamma for the graph, evaluated in float64. Maxima are exact; curves are allowed what curves.py says. A step
of a layer that torch does as a whole is computed here, and what comes of the layer is compared. Then the program as a
whole is held against the network itself: the same calls on the same numbers, so that the logits differ in no bit, or,
where a kernel chooses another order of summation, by no more than gamma_R(u) times the largest of them, R the roundings
of all layers.
"""

from __future__ import annotations

import torch
from torch import Tensor, fx

from robusteval.certify.propagation.curves import Curve
from robusteval.certify.propagation.graph import Graph
from robusteval.certify.propagation.ops import Affine, Max
from robusteval.certify.propagation.rounding import gamma
from robusteval.core import memory
from robusteval.core.errors import UnsupportedError
from robusteval.core.norms import Norm, column
from robusteval.core.streams import Streams
from robusteval.models.classifier import Classifier

AT_ONCE = 2**24
"""Numbers of the values of a batch of images: 128 MiB."""
SHARES = (1.0, 0.5, 0.125)
"""Of the radius of a ball, in turns: how far images are moved."""
UNPROVEN = 0.01
"""How far images are moved whose radius is zero, in Linf."""


def odd_images(like: Tensor) -> Tensor:
    """Images that data sets lack: of one grey from black to white, of random corners of the box, of uniform noise."""
    generator = torch.Generator().manual_seed(0)
    greys = torch.linspace(0, 1, 5).view(-1, 1, 1, 1).expand(-1, *like.shape[1:])
    noise = torch.rand(4, *like.shape[1:], generator=generator)
    return torch.cat([greys, noise[:2].round(), noise[2:]]).to(like)


def moved(pixels: Tensor, norm: Norm, radius: Tensor, streams: Streams) -> Tensor:
    """Each image (N, C, H, W) moved to the edge of a ball of a share of its radius (N,), inside the box: every second
    one along signs, the others along few pixels of a random direction."""
    direction = streams.in_ball(Norm.LINF, *pixels.shape[1:])
    few = direction * (direction.abs() > 0.9)
    odd = column(torch.arange(len(pixels), device=pixels.device) % 2, pixels)
    shares = torch.tensor(SHARES).to(radius)[torch.arange(len(pixels)) % len(SHARES)]
    size = torch.where(radius > 0, shares * radius, 0.0).to(pixels)
    step = norm.scale_to(torch.where(odd == 0, direction.sign(), few), size)
    step = torch.where(column(radius > 0, pixels), step, UNPROVEN * direction)
    return (pixels + step).clamp(0, 1)


def check_answers(graph: Graph, program: fx.GraphModule, classifier: Classifier, pixels: Tensor) -> None:
    """Raise UnsupportedError where the network answers images (N, C, H, W) otherwise than the graph that was read from
    its program. Its evaluations are not counted."""
    numbers = 3 * sum(torch.Size(node.shape).numel() for node in graph.nodes)
    roundings = sum(node.op.rounded for node in graph.nodes if isinstance(node.op, Affine))
    for some in pixels.split(memory.rows(AT_ONCE, numbers)):
        replay = _Replay(program, {node.name for node in graph.nodes})
        try:
            with torch.no_grad():
                again: Tensor = replay.run(some.clone())
                logits: Tensor = classifier.module(some.clone())
        except (Exception, SystemExit) as error:
            raise UnsupportedError(
                f"expected a network that answers any images, got an error from {classifier.name}: "
                f"{(str(error) or type(error).__name__).splitlines()[0]}"
            ) from error
        for k, node in enumerate(graph.nodes[1:], 1):
            if _differs(graph, k, replay.values):
                raise _otherwise(classifier, f"the layer '{node.name}' computes something else")
        size = logits.nan_to_num(0.0, 0.0, 0.0).abs().amax(1, keepdim=True).double()
        allowed = gamma(roundings, torch.finfo(graph.dtype).eps / 2) * size
        same = (logits == again) | ((logits.double() - again.double()).abs() <= allowed) | (logits != logits)
        if not bool((same & (logits.isnan() == again.isnan())).all()):
            raise _otherwise(classifier, "what comes of all layers is not what it answers")


class _Replay(fx.Interpreter):
    """Runs a program and keeps some of its values as they were when they were made, in float64."""

    def __init__(self, program: fx.GraphModule, names: set[str]) -> None:
        super().__init__(program)
        self.names, self.values = names, dict[str, Tensor]()

    def run_node(self, n: fx.Node) -> object:
        result = super().run_node(n)
        if n.name in self.names and isinstance(result, Tensor):
            self.values[n.name] = result.to(torch.float64, copy=True)
        return result


def _differs(graph: Graph, k: int, values: dict[str, Tensor]) -> bool:
    """Whether a layer gave something else than it should have for what it was given, rounding allowed."""
    node, info = graph.nodes[k], torch.finfo(graph.dtype)
    x = [values[graph.nodes[j].name].reshape(-1, *graph.nodes[j].shape) for j in node.inputs]
    if node.name not in values:
        # A step of a layer that torch does as a whole.
        values[node.name] = node.op.output(*x)
        return False
    found = values[node.name].reshape(-1, *node.shape)
    if isinstance(node.op, Max):
        exact = node.op.apply(x[0])
        return not bool(((found == exact) | (exact != exact)).all())
    if isinstance(node.op, Curve):
        exact = node.op.apply(x[0])
        allowed = node.op.error(exact.abs(), x[0].abs(), graph.dtype) + 1e-14 * exact.abs()
        return bool((~((found - exact).abs() <= allowed) & x[0].isfinite()).any())
    assert isinstance(node.op, Affine)
    exact, size = node.op.output(*x), node.op.absolute().apply(*(v.abs() for v in x))
    if node.op.bias_size is not None:
        size = size + node.op.bias_size
    rounded = node.op.rounded
    allowed = (gamma(rounded, info.eps / 2) + gamma(rounded + 4)) * size + 4 * rounded * info.smallest_normal
    # Where sums overflow the network answers infinity or NaN; no proof speaks of that.
    return bool((~((found - exact).abs() <= allowed) & (size < info.max / 4)).any())


def _otherwise(classifier: Classifier, what: str) -> UnsupportedError:
    return UnsupportedError(
        f"expected a network that does what its layers say, got {classifier.name}, which answers otherwise (hooks, "
        f"state, lower precision?): {what}"
    )
