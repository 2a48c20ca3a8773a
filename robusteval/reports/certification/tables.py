"""The tables of a certification: what is certified, at a glance, and each certificate at each radius."""

from __future__ import annotations

from collections.abc import Sequence

from robusteval.analysis import names, show
from robusteval.analysis.certification import Covered
from robusteval.analysis.claims_made import Claim
from robusteval.analysis.intervals import Proportion
from robusteval.analysis.show import Round
from robusteval.reports.grid import Grid

STRENGTH = ("proof", "confidence", "estimate")
"""Guarantees from the strongest to none."""


def clean_sentence(model: str, clean: Proportion) -> str:
    """How much of the images the model classifies correctly as they are: no more than that can be certified of it."""
    return (
        f"{model} classifies {_of(clean)} correctly as they are: clean accuracy {show.percent(clean.value)} "
        f"(95 % interval {show.percents(clean.low, clean.high)})."
    )


def claim_sentence(claim: Claim) -> str:
    """One row of the summary in words."""
    how = "By proof" if claim.guarantee == "proof" else f"With confidence {_confidence(claim)} for each image"
    return f"{how}, {names.subject(claim.subject)} keeps {_of(claim.share)} right within {_radius(claim)}."


def claims_grid(claims: Sequence[Claim]) -> Grid:
    """How many of how many images are certified at which radius, by which kind of guarantee."""
    rows = [
        [
            _radius(claim),
            f"{claim.share.count:,} of {claim.share.n:,}",
            show.percent(claim.share.value, Round.DOWN),
            show.percents(claim.share.low, claim.share.high),
            "proof" if claim.guarantee == "proof" else f"confidence {_confidence(claim)}",
            names.subject(claim.subject),
            "; ".join(names.bare(title, claim.norm).replace(f" ({claim.guarantee})", "") for title in claim.by),
        ]
        for claim in claims
    ]
    headings = ["Perturbations up to", "images certified", "certified accuracy", "95 % interval"]
    headings += ["guarantee", "of", "by"]
    note = (
        "Images that are classified correctly, and keep their class under every perturbation of that size. Of several "
        "proofs the best of each image counts. Accuracies are rounded down; intervals are over images."
    )
    return Grid("What is certified", headings, rows, text=1, note=note, name="certified")


def share_grid(certificates: Sequence[Covered]) -> Grid:
    """Images classified correctly with at least each radius, for each certificate, the strongest guarantees first."""
    rows = []
    for found in sorted(certificates, key=lambda c: STRENGTH.index(c.record.guarantee)):
        record = found.record
        for radius, share in found.at_budgets:
            shown = [show.percent(share.value, Round.DOWN), show.percents(share.low, share.high)]
            said = [found.title, record.guarantee, names.subject(record.subject), names.at(record.norm, radius)]
            rows.append([*said, *shown])
    headings = ["Certificate", "guarantee", "speaks of", "radius at least", "images", "95 % interval"]
    note = "Images that are classified correctly with at least that radius, rounded down; intervals over images."
    return Grid("Each certificate at each radius", headings, rows, text=4, note=note)


def _of(share: Proportion) -> str:
    return f"{share.count:,} of {share.n:,} {'image' if share.n == 1 else 'images'}"


def _radius(claim: Claim) -> str:
    return f"some {claim.norm.symbol} radius" if claim.radius is None else names.at(claim.norm, claim.radius)


def _confidence(claim: Claim) -> str:
    """1 - alpha, as a percentage with all of its digits."""
    return "1 - alpha" if claim.alpha is None else f"{100 * (1 - claim.alpha):.6g} %"
