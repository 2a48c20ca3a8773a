"""The headline of a summary, as lines of text: the same in HTML, in Markdown and on the terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from robusteval.reports import names, show
from robusteval.reports.intervals import Proportion
from robusteval.reports.show import Round
from robusteval.reports.summary import Calibrated, Certified, Distance, Summary


@dataclass(frozen=True)
class Line:
    quantity: str
    at: str
    value: str
    interval: str
    n: int


def headline(summary: Summary) -> list[Line]:
    """Clean accuracy, robust accuracy (an upper bound, rounded up), median distance, certified accuracy
    (a lower bound, rounded down), and how often a witness contradicts an estimate.

    Of the budgets at which a certificate covers no image only the smallest is named, and only if it covers none at all.
    """
    robust = (_line("Robust accuracy, at most", _at(r.norm, r.budget), r.share, Round.UP) for r in summary.robust)
    certified = (
        _line(certified_name(c), _at(c.norm, c.budget), c.share, Round.DOWN) for c in _telling(summary.certified)
    )
    clean = _line("Clean accuracy", "clean", summary.clean, Round.NEAREST)
    violated = (line for c in summary.calibrated for line in _violated(c))
    return [clean, *robust, *map(_distance, summary.distances), *certified, *violated]


def _telling(certified: Sequence[Certified]) -> Iterator[Certified]:
    by_stage: dict[str, list[Certified]] = {}
    for c in certified:
        by_stage.setdefault(c.stage, []).append(c)
    for lines in by_stage.values():
        yield from [c for c in lines if c.share.count] or lines[:1]


def certified_name(c: Certified) -> str:
    """A proof or a confidence bound is called certified; an estimate never is."""
    title = names.bare(c.title, c.norm).replace(f" ({c.kind})", "")
    if c.kind == "estimate":
        return f"Estimated accuracy, {title}"
    doubt = f"{c.kind}, alpha {c.alpha:g}" if c.alpha is not None else c.kind
    if c.subject == "f":
        return f"Certified accuracy, {title} ({doubt})"
    return f"Certified accuracy of {c.subject}, {title.split(',')[0]} ({doubt})"


def guarantees(summary: Summary) -> list[str]:
    """What these numbers promise and what they do not, in sentences."""
    said = []
    if summary.robust:
        said.append(
            "Robust accuracy and median distance are upper bounds: each image that the attacks fooled has a kept "
            "witness that shows it, while an image that they did not fool may still fall to another attack."
        )
    if "proof" in summary.guarantees:
        said.append("Bounds named proof hold for every perturbation within their radius.")
    if "confidence" in summary.guarantees:
        said.append(
            "Bounds named confidence speak of the smoothed model, not of the model itself, and each may be wrong "
            "with the probability alpha."
        )
    if "estimate" in summary.guarantees:
        said.append(
            "Bounds named estimate rest on an extreme value fitted to samples: they guide, and guarantee nothing."
        )
    if summary.calibrated:
        said.append(
            "A calibrated estimate was scaled down on some of the images so that on another image like them it exceeds "
            "the closest witness of these attacks with at most the stated probability; its lines count the images that "
            "had no part in that."
        )
    if "proof" not in summary.guarantees:
        said.append("No lower bound in this run is a proof for the model itself.")
    return said


def _line(quantity: str, at: str, share: Proportion, rounding: Round) -> Line:
    return Line(quantity, at, show.percent(share.value, rounding), show.percents(share.low, share.high), share.n)


def _violated(c: Calibrated) -> list[Line]:
    norm, title = names.NORMS[c.norm], names.bare(c.title, c.norm).replace(" (estimate)", "")
    return [
        _line(f"Estimate above a witness, {title}", norm, c.before, Round.UP),
        _line(f"Estimate above a witness, {title} calibrated at {show.percent(c.delta)}", norm, c.after, Round.UP),
    ]


def _distance(d: Distance) -> Line:
    value, interval = show.upper(d.median.value, d.norm), show.distances(d.median.low, d.median.high, d.norm)
    return Line("Median distance, at most", names.NORMS[d.norm], value, interval, d.median.n)


def _at(norm: str, budget: float) -> str:
    return f"{names.NORMS[norm]} {show.budget(budget)}"
