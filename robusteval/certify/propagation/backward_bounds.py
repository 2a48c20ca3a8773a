"""Backward linear bounds (CROWN, Zhang et al. 2018): rows of coefficients pulled back to the pixels."""

from __future__ import annotations

import torch
from torch import Tensor

from robusteval.certify.propagation.curves import Curve
from robusteval.certify.propagation.graph import Graph
from robusteval.certify.propagation.ops import Affine, Max
from robusteval.certify.propagation.places import Box
from robusteval.certify.propagation.rounding import gamma
from robusteval.certify.propagation.values import Known


def pulled_back(
    graph: Graph,
    known: list[Known],
    k: int,
    a: Tensor,
    box: Box,
    *,
    until: int = 0,
    of: Tensor | None = None,
    seen: dict[int, Tensor] | None = None,
) -> tuple[Tensor, Tensor, Box]:
    """Linear functions of value k as linear lower bounds in terms of value `until`.

    a (P, R, C, h, w): R rows of coefficients, zero outside of `box`, for each of P images; `of` (P,) says which of
    the M images that are known these are (all of them, in order, by default). Gives constants (P, R) and
    coefficients b (P, R, C', h', w') in a box with <a, value k>  >=  constant + <b, value `until`> for every
    image of the ball. Every path from value k must lead through `until`. The coefficients of each value on the way,
    (P, R, C, H, W), are put into `seen`.
    """
    total = a.new_zeros(a.shape[:2], dtype=torch.float64)
    pending = {k: (a, box)}
    while pending and (k := max(pending)) > until:
        a, box = pending.pop(k)
        if seen is not None:
            seen[k] = box.embed(a, Box.whole(graph.nodes[k].shape))
        node, here = graph.nodes[k], known[k]
        below, above = (_some(end, box, of, a.dtype)[:, None] for end in (here.below, here.above))
        faint = here.faint if of is None else here.faint[of]
        total = total + summed(rising(a, below, above)) - faint[:, None]
        for source, (part, at) in zip(node.inputs, _below(node.op, here, a, box, of), strict=True):
            if not part.numel():
                # Windows that see nothing but padding.
                continue
            if source in pending:
                other, place = pending[source]
                both = place.union(at)
                part, at = place.embed(other, both) + at.embed(part, both), both
            pending[source] = part, at
    nothing = a.new_zeros(*a.shape[:2], graph.nodes[until].shape[0], 1, 1), Box(0, 0, 1, 1)
    return total, *pending.get(until, nothing)


def _below(op: object, here: Known, a: Tensor, box: Box, of: Tensor | None) -> list[tuple[Tensor, Box]]:
    """The coefficients of each input of a layer."""
    if isinstance(op, Max | Curve):
        assert here.lines is not None
        lower, upper = (_some(line, box, of, a.dtype, 1) for line in (here.lines.lower, here.lines.upper))
        part, at = op.scattered(rising(a, lower, upper), box)
        return [(part if here.lines.shift is None else part + _some(here.lines.shift, at, of, a.dtype), at)]
    assert isinstance(op, Affine)
    return [(part.unflatten(0, a.shape[:2]), at) for part, at in op.adjoint(a.flatten(0, 1), box)]


def rising(a: Tensor, lower: Tensor, upper: Tensor) -> Tensor:
    """a times `lower` where it is positive, else times `upper`. Many times as fast as a choice (torch.where).

    Its derivative at zero is `lower`: two clamps would pass both."""
    positive = a.clamp_min(0)
    return positive * lower + (a - positive) * upper


def summed(terms: Tensor) -> Tensor:
    """A lower bound of the sum of each row of terms (P, R, C, h, w), (P, R) float64, but for the rounding of a sum in
    float64: those of float32 are added up in it along w alone, which is ten times as fast."""
    width = terms.shape[-1]
    if width == 1 or terms.dtype == torch.float64:
        return terms.sum((2, 3, 4), dtype=torch.float64)
    lines, sizes = terms.sum(-1), terms.abs().sum(-1)
    lost = gamma(2 * width, torch.finfo(terms.dtype).eps / 2)
    return (lines.double() - lost * sizes.double()).sum((2, 3))


def _some(x: Tensor, box: Box, of: Tensor | None, dtype: torch.dtype, dim: int = 0) -> Tensor:
    """The part of x in a box in a type, for some of the images along `dim`."""
    part = box.of(x).to(dtype)
    return part if of is None else part.index_select(dim, of)
