"""Many solvers at a time, each as if alone."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from numpy.typing import NDArray

from robusteval.attacks.solvers import minimise_in_box

Floats = NDArray[np.float64]


def test_solvers_together_find_what_each_finds_alone_and_stay_in_the_box() -> None:
    """Quadratics with centres inside and outside the box: the minimiser is the nearest point of it."""
    rng = np.random.default_rng(0)
    centres, widths = rng.uniform(-0.5, 1.5, (7, 5)), rng.uniform(1, 50, (7, 5))
    sizes: list[int] = []

    def evaluate(rows: NDArray[np.int64], points: Floats) -> tuple[Floats, Floats]:
        sizes.append(len(rows))
        offset = points - centres[rows]
        return (widths[rows] * offset**2).sum(1), 2 * widths[rows] * offset

    found = minimise_in_box(evaluate, np.full((7, 5), 0.5), 100)
    np.testing.assert_allclose(found, centres.clip(0, 1), atol=1e-4)
    assert sizes[0] == 7
    assert sizes == sorted(sizes, reverse=True)


def test_an_evaluation_that_fails_ends_all_solvers() -> None:
    calls = itertools.count()

    def evaluate(rows: NDArray[np.int64], points: Floats) -> tuple[Floats, Floats]:
        if next(calls) == 1:
            raise MemoryError("no room")
        return (points**2).sum(1), 2 * points

    with pytest.raises(MemoryError, match="no room"):
        minimise_in_box(evaluate, np.random.default_rng(0).uniform(size=(5, 3)), 100)
