"""What a certification comes down to: how many images are certified at which radius, by which kind of guarantee."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from robusteval.analysis.certification import Covered
from robusteval.analysis.intervals import Proportion, proportion
from robusteval.analysis.results import Results
from robusteval.core.norms import BALLS, Norm
from robusteval.results.bracket import HOLDS_IN


@dataclass(frozen=True)
class Claim:
    """The images that `subject` classifies correctly with a radius of at least `radius` in `norm`, or above 0 where
    that is None; by a "proof" of the best certificate of each image, or with "confidence" 1 - alpha for each image."""

    guarantee: str
    subject: str
    alpha: float | None
    norm: Norm
    radius: float | None
    share: Proportion
    by: tuple[str, ...]
    """The titles of the certificates."""


def claims_made(results: Results, found: tuple[Covered, ...]) -> list[Claim]:
    """Proofs of the model first, then each bound that holds with confidence; estimates claim nothing. At the budgets
    of the protocol; in a norm without any, radii above 0."""
    proofs = [c for c in found if c.record.guarantee == "proof" and c.record.subject == "f"]
    others = [c for c in found if c.record.guarantee != "estimate" and c not in proofs]
    return [*_proven(results, proofs), *(claim for c in others for claim in _by_one(c))]


def _proven(results: Results, proofs: list[Covered]) -> Iterator[Claim]:
    asked = results.manifest.protocol.budgets
    for norm in dict.fromkeys([*(n for n in asked if n in BALLS), *(c.record.norm for c in proofs)]):
        own = [c for c in proofs if c.record.norm in HOLDS_IN[norm]]
        radii = results.columns("bounds", [f"proof_{norm}"])[f"proof_{norm}"]
        by = tuple(c.title for c in own)
        for budget in sorted(asked.get(norm, ())) if own else ():
            yield Claim("proof", "f", None, norm, budget, proportion(radii >= budget), by)
        if own and norm not in asked:
            yield Claim("proof", "f", None, norm, None, proportion(radii > 0), by)


def _by_one(c: Covered) -> Iterator[Claim]:
    record = c.record
    said = (str(record.guarantee), record.subject, record.alpha, record.norm)
    for budget, share in c.at_budgets:
        yield Claim(*said, budget, share, (c.title,))
    if not c.at_budgets:
        yield Claim(*said, None, c.above_zero, (c.title,))
