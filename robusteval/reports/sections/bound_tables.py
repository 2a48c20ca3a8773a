"""Tables of a report: how far the brackets are closed, the certificates with the state of their fits, and how often
witnesses contradict estimates."""

from __future__ import annotations

from collections.abc import Sequence

from robusteval.analysis import names, show
from robusteval.analysis.certification import Spread
from robusteval.analysis.non_finite import unanswered
from robusteval.analysis.results import Results
from robusteval.analysis.show import Round
from robusteval.analysis.summary import Summary
from robusteval.core.norms import Norm
from robusteval.reports.grid import Grid
from robusteval.results.exact import WITHIN


def bracket_grids(summary: Summary) -> list[Grid]:
    """In each norm with attacks and proofs: how many distances are exact, and how wide the median bracket is."""
    widths = {w.norm: w.median for w in summary.widths}
    rows = [
        [
            Norm(e.norm).symbol,
            f"{e.share.count:,} of {e.share.n:,}",
            show.percent(e.share.value, Round.DOWN),
            show.percents(e.share.low, e.share.high),
            show.upper(gap.value, e.norm),
            show.distances(gap.low, gap.high, e.norm),
        ]
        for e in summary.exacts
        for gap in [widths[e.norm]]
    ]
    headings = ["Norm", "exact distances", "at least", "95 % interval", "median gap", "95 % interval"]
    note = (
        "Of the images that are classified correctly. A distance is exact where the closest witness lies at most "
        f"{WITHIN} farther than the largest proven radius: the minimum distance lies between the two. The gap is from "
        "the one to the other."
    )
    return [Grid("How far the brackets are closed", headings, rows, note=note, name="brackets")] if rows else []


def radius_grids(certificates: Sequence[Spread]) -> list[Grid]:
    """Each certificate: what it speaks of, how far it can be trusted, its radii, the state of its fits."""
    rows = []
    for spread in certificates:
        record, radius, norm = spread.record, spread.median, spread.record.norm
        doubt = f", alpha {record.alpha:g}" if record.alpha is not None else ""
        rows.append(
            [
                spread.title,
                names.subject(record.subject),
                f"{record.guarantee}{doubt}",
                "; ".join(spread.fits) or "-",
                show.lower(radius.value, norm),
                f"{show.lower(radius.low, norm)} to {show.upper(radius.high, norm)}",
                show.percent(spread.above_zero, Round.DOWN),
            ]
        )
    headings = ["Lower bound", "speaks of", "guarantee", "fit", "median radius", "95 % interval", "radius above 0"]
    return [Grid("Radii of the lower bounds", headings, rows, text=4)] if rows else []


def unanswered_note(results: Results) -> str:
    """A sentence for each certificate that asked the model and got answers that are not finite."""
    found = (unanswered(results, record.name) for record in results.certificates_ran)
    return " ".join(str(one) for one in found if one)


def calibration_grids(summary: Summary) -> list[Grid]:
    """How often estimates exceed a witness, before and after they were calibrated."""
    rows = [
        [
            c.title,
            show.percent(c.delta),
            f"{c.calibrating:,}",
            show.fixed(c.factor, 4, Round.DOWN) if c.factor else "0: too few images",
            f"{c.before.n:,}",
            *(
                text
                for p in (c.before, c.after)
                for text in (show.percent(p.value, Round.UP), show.percents(p.low, p.high))
            ),
        ]
        for c in summary.calibrated
    ]
    headings = ["Estimate", "allowed", "calibrated on", "factor", "counted on", "above a witness", "95 % interval"]
    headings += ["calibrated, above a witness", "95 % interval"]
    note = (
        "Images that are classified correctly and whose estimate is above zero. On one more such image the calibrated "
        "estimate exceeds the closest witness of the attacks of this run with at most the allowed probability, if "
        "images are exchangeable (split-conformal): that says how it compares with these attacks, not with the true "
        "distance. Calibrated radii are the columns calibrated_ of tables/bounds.csv."
    )
    return [Grid("Calibration of the estimates", headings, rows, note=note)] if rows else []
