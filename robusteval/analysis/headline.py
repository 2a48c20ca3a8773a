"""The headline of a run, as lines of text: the same in a notebook, in HTML, in Markdown and on the terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape

from robusteval.analysis import names, show
from robusteval.analysis.intervals import Proportion
from robusteval.analysis.results import Results
from robusteval.analysis.show import Round
from robusteval.analysis.standing import Width
from robusteval.analysis.summary import Calibrated, Certified, Distance, Summary, summarise
from robusteval.core.norms import Norm
from robusteval.results.exact import WITHIN
from robusteval.results.run import Run


@dataclass(frozen=True)
class Line:
    """A number with its 95 % interval, in full precision and as shown, over n images."""

    quantity: str
    at: str
    value: float
    low: float
    high: float
    shown: str
    interval: str
    n: int


def headline_of(summary: Summary) -> list[Line]:
    """Clean accuracy, robust accuracy (an upper bound, rounded up), certified accuracy (a lower bound, rounded down),
    median distance, width of the brackets, the share of exact distances (a lower bound), and how often a witness
    contradicts an estimate.

    A certificate that covers no image at any budget is named only where no other of its kind covers one, and so is a
    norm without an exact distance; of several estimates the one is named that is most often above a witness. Tables
    have the rest.
    """
    robust = (_line("Robust accuracy, at most", names.at(r.norm, r.budget), r.share, Round.UP) for r in summary.robust)
    certified = (
        _line(certified_name(c), names.at(c.norm, c.budget), c.share, Round.DOWN) for c in _telling(summary.certified)
    )
    distances = (_distance("Median distance, at most", d) for d in summary.distances)
    widths = (_distance("Median gap, proof to adversarial example", w) for w in summary.widths)
    exact = [e for e in summary.exacts if e.share.count] or summary.exacts[:1]
    exacts = (_line(f"Exact distances, to {WITHIN}, at least", Norm(e.norm).symbol, e.share, Round.DOWN) for e in exact)
    clean = _line("Clean accuracy", "clean", summary.clean, Round.NEAREST)
    worst = max(summary.calibrated, key=lambda c: c.before.value, default=None)
    violated = [] if worst is None else _violated(worst, alone=len(summary.calibrated) == 1)
    return [clean, *robust, *certified, *distances, *widths, *exacts, *violated]


def _telling(certified: Sequence[Certified]) -> Iterator[Certified]:
    for kind in ("proof", "confidence", "estimate"):
        own = [c for c in certified if c.kind == kind]
        yield from [c for c in own if c.share.count] or own[:1]


def certified_name(c: Certified) -> str:
    """A proof or a confidence bound is called certified; an estimate never is."""
    title = names.bare(c.title, c.norm).replace(f" ({c.kind})", "")
    if c.kind == "estimate":
        return f"Estimated accuracy, {title}"
    doubt = f"{c.kind}, alpha {c.alpha:g}" if c.alpha is not None else c.kind
    if c.subject == "f":
        return f"Certified accuracy, {title} ({doubt})"
    return f"Certified accuracy of {names.subject(c.subject)}, {title.split(',')[0]} ({doubt})"


def _line(quantity: str, at: str, share: Proportion, rounding: Round) -> Line:
    shown, interval = show.percent(share.value, rounding), show.percents(share.low, share.high)
    return Line(quantity, at, share.value, share.low, share.high, shown, interval, share.n)


def _violated(c: Calibrated, alone: bool) -> list[Line]:
    norm, title = Norm(c.norm).symbol, names.bare(c.title, c.norm).replace(" (estimate)", "")
    often = "" if alone else "most often "
    what = f"{title} {often}above a known adversarial example"
    return [
        _line(what, norm, c.before, Round.UP),
        _line(f"The same, calibrated at {show.percent(c.delta)}", norm, c.after, Round.UP),
    ]


def _distance(quantity: str, d: Distance | Width) -> Line:
    m, norm = d.median, d.norm
    shown, interval = show.upper(m.value, norm), show.distances(m.low, m.high, norm)
    return Line(quantity, Norm(norm).symbol, m.value, m.low, m.high, shown, interval, m.n)


def headline(run: Run | Results) -> list[Line]:
    """The headline of a finished run."""
    return headline_of(summarise(run))


def headline_html(run: Run | Results) -> str:
    """The headline as an HTML table, every text escaped."""
    summary = summarise(run)
    rows = "".join(
        f"<tr>{''.join(f'<td>{escape(text)}</td>' for text in (x.quantity, x.at, x.shown, x.interval))}</tr>"
        for x in headline_of(summary)
    )
    title = f"{summary.model} on {show.images(summary.n)} of {summary.data}, protocol {summary.protocol}"
    return f"<table><caption>{escape(title)}</caption>{rows}</table>"
