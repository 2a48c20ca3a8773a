"""The lines that enclose a maximum."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from propagating import F64
from robusteval.certify.propagation.ops import Max
from robusteval.certify.propagation.places import Windows
from robusteval.certify.propagation.relaxation import relaxed
from robusteval.certify.propagation.rounding import Precision
from robusteval.certify.propagation.values import Interval


@given(
    seed=st.integers(0, 10**6),
    floor=st.booleans(),
    side=st.integers(1, 3),
    width=st.sampled_from([0.0, 1e-12, 0.3, 3.0]),
)
@settings(max_examples=60, deadline=None)
def test_the_lines_enclose_a_maximum(seed: int, floor: bool, side: int, width: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    op = Max(Windows((side, side), (side, side), (0, 0), (1, 1), (side, side)), floor)
    centre = torch.randn(8, 2, side, side, generator=generator, dtype=F64)
    half = width * torch.rand(centre.shape, generator=generator, dtype=F64)
    interval = Interval(centre - half, centre + half)
    known = relaxed(op, interval, Precision(torch.float32, F64, 5))
    assert known.lines is not None
    share = torch.rand(200, *centre.shape, generator=generator, dtype=F64)
    # Ends of the intervals, and random points.
    share[:100] = share[:100].round()
    x = interval.lower + share * 2 * half
    exact = op.apply(x.flatten(0, 1)).view(200, 8, 2, 1, 1)
    members = op.members(x.flatten(0, 1)).unflatten(1, (200, 8))
    above = (known.lines.upper[:, :, 0] * members.movedim(1, 0)).sum(1) + known.above
    below = (known.lines.lower[:, :, 0] * members.movedim(1, 0)).sum(1) + known.below
    assert (exact <= above).all()
    assert (exact >= below).all()
    # Any slope does where one is said to be free.
    lower = torch.where(known.lines.free, torch.rand(known.lines.lower.shape, generator=generator), known.lines.lower)
    assert (exact >= (lower[:, :, 0] * members.movedim(1, 0)).sum(1) + known.below).all()
    # The level is one that an entry can have: the line above is never above all of them by more than the widths.
    assert (above - exact <= 2 * half.sum((2, 3), keepdim=True) + (1e-9 if not floor else 1e-9 + exact)).all()


def test_the_line_above_a_relu_is_its_chord() -> None:
    op = Max(Windows((1, 1), (1, 1), (0, 0), (1, 1), (1, 4)), floor=True)
    lower, upper = (torch.tensor(v, dtype=F64).view(1, 1, 1, 4) for v in ([-1, -3, 1, -2.0], [3, 1, 2, -1.0]))
    known = relaxed(op, Interval(lower, upper), Precision(torch.float32, F64, 5))
    assert known.lines is not None
    assert torch.allclose(known.lines.upper.flatten(), torch.tensor([0.75, 0.25, 1.0, 0.0], dtype=F64))
    assert torch.allclose(known.above.flatten(), torch.tensor([0.75, 0.75, 0.0, 0.0], dtype=F64))
    assert known.lines.lower.flatten().tolist() == [1, 0, 1, 0]
