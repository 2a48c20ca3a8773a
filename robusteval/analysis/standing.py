"""Where the images stand: proven right, broken or open at each budget, how wide their brackets are, and how many of
their distances are exact."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from robusteval.analysis.curves import within
from robusteval.analysis.intervals import Median, Proportion, median, proportion
from robusteval.core.methods import Guarantee
from robusteval.core.norms import BALLS, Norm
from robusteval.results.bracket import HOLDS_IN
from robusteval.results.exact import is_exact
from robusteval.results.records import CertificateRecord

NormBudgets = Mapping[Norm, Sequence[float]]
EachBudgets = Mapping[Norm, Mapping[str, float]]
"""A radius for each image, by its id."""


@dataclass(frozen=True)
class Standing:
    """How many images are what at a budget, each image's own where that is None; every image is counted once, a broken
    one never as proven."""

    norm: str
    budget: float | None
    proven: int
    open: int
    broken: int
    wrong: int


@dataclass(frozen=True)
class Width:
    """The distance from the largest proven radius (0 where nothing is proven) to the closest witness (infinite where
    none was found): its median over the images that are classified correctly."""

    norm: str
    median: Median


@dataclass(frozen=True)
class Exact:
    """The share of the images that are classified correctly whose distance is exact: proof and witness meet."""

    norm: str
    share: Proportion


def standings(bounds: pd.DataFrame, budgets: NormBudgets, own: EachBudgets | None = None) -> tuple[Standing, ...]:
    """At each budget of a protocol, then at those that each image has for itself, from the table of bounds. Only proofs
    of the model itself count as proven."""
    wrong = ~bounds["correct"].to_numpy(bool)
    found = []
    for norm, budget, radii in asked_radii(bounds, budgets, own or {}):
        proof = bounds[f"proof_{norm}"].to_numpy() if norm in BALLS else np.zeros(len(bounds))
        broken = ~wrong & within(bounds[f"upper_{norm}"], radii)
        proven = ~wrong & ~broken & (proof >= radii)
        rest = ~wrong & ~broken & ~proven
        found.append(Standing(norm, budget, *(int(x.sum()) for x in (proven, rest, broken, wrong))))
    return tuple(found)


def asked_radii(
    images: pd.DataFrame, budgets: NormBudgets, own: EachBudgets
) -> Iterator[tuple[Norm, float | None, NDArray[np.float64]]]:
    """Each norm and budget of a protocol with the radius of every image (N,), one a row of a table; the budget is None
    where each has its own."""
    for norm, values in budgets.items():
        for budget in sorted(values):
            yield norm, budget, np.full(len(images), budget)
    for norm, given in own.items():
        yield norm, None, np.asarray(images["image_id"].map(dict(given)), dtype=np.float64)


def proved_norms(certificates: Sequence[CertificateRecord]) -> frozenset[Norm]:
    """The norms in which a proof of the model itself speaks: a radius in one norm holds in every smaller one."""
    made = {c.norm for c in certificates if c.guarantee is Guarantee.PROOF and c.subject == "f"}
    return frozenset(norm for norm in BALLS if made.intersection(HOLDS_IN[norm]))


def widths(bounds: pd.DataFrame, norms: Sequence[str]) -> tuple[Width, ...]:
    """In each of `norms` in which anything is proven. An image with an infinite radius and no witness has a bracket of
    width 0: nothing can break it."""
    right, found = bounds["correct"].to_numpy(bool), []
    for norm in (norm for norm in norms if norm in BALLS):
        proof = bounds.loc[right, f"proof_{norm}"]
        if (proof > 0).any():
            found.append(Width(norm, median((bounds.loc[right, f"upper_{norm}"] - proof).fillna(0.0))))
    return tuple(found)


def exacts(bounds: pd.DataFrame, norms: Sequence[str]) -> tuple[Exact, ...]:
    """In each of `norms` in which anything is proven."""
    right = bounds[bounds["correct"].to_numpy(bool)]
    both = ((norm, right[f"proof_{norm}"], right[f"upper_{norm}"]) for norm in norms if norm in BALLS)
    return tuple(Exact(norm, proportion(is_exact(proof, upper))) for norm, proof, upper in both if (proof > 0).any())
