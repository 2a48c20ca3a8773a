"""Places with ties: models in one column, compared pair by pair on the same images."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import binomtest

from robusteval.analysis.intervals import ALPHA


@dataclass(frozen=True)
class Place:
    """`first` = 1 + models significantly better; `last` = models minus those significantly worse; `ties` (indices) are
    those not significantly different."""

    first: int
    last: int
    ties: tuple[int, ...]


def sign_test(a: ArrayLike, b: ArrayLike) -> float:
    """The p-value that neither of two models is larger on more images, given their values (n,) on the same images.

    The exact two-sided sign test over the images where they differ: of right and wrong this is McNemar's exact test
    (1947), and it holds for distances, infinite ones too. 1 where they never differ.
    """
    x, y = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    above, below = int((x > y).sum()), int((x < y).sum())
    return float(binomtest(above, above + below).pvalue) if above + below else 1.0


def holm(p: Sequence[float], alpha: float) -> NDArray[np.bool_]:
    """Which hypotheses are rejected, given their p-values, with a familywise error of at most `alpha` (Holm 1979): the
    smallest, as long as the k-th smallest of n is at most alpha / (n - k + 1)."""
    order = np.argsort(p, kind="stable")
    small = np.asarray(p)[order] <= alpha / np.arange(len(p), 0, -1)
    rejected = np.zeros(len(p), dtype=bool)
    rejected[order[np.logical_and.accumulate(small)]] = True
    return rejected


def rank(values: Sequence[ArrayLike], higher_is_better: bool = True, alpha: float = ALPHA) -> list[Place]:
    """The places of M models from their values (n,) on the same images; all pairs are tested together (Holm 1979).

    Of two that differ significantly the better is the one that is better on more of the images.
    """
    pairs = list(itertools.combinations(range(len(values)), 2))
    better = np.zeros((len(values), len(values)), dtype=bool)
    if pairs:
        p = [sign_test(values[i], values[j]) for i, j in pairs]
        for (i, j), differ in zip(pairs, holm(p, alpha), strict=True):
            if differ:
                x, y = (np.asarray(values[k], dtype=np.float64) for k in (i, j))
                wins = ((x > y).sum() > (x < y).sum()) == higher_is_better
                better[(i, j) if wins else (j, i)] = True
    return [
        Place(
            1 + int(better[:, k].sum()),
            len(values) - int(better[k].sum()),
            tuple(j for j in range(len(values)) if j != k and not better[j, k] and not better[k, j]),
        )
        for k in range(len(values))
    ]
