"""Operator norms of the Jacobian, laid out as OpNorm's table 1."""

from __future__ import annotations

from robusteval.analysis import show
from robusteval.analysis.metrics.measured import MeasuredStage, measured_stages
from robusteval.analysis.results import Results
from robusteval.core.norms import Norm
from robusteval.reports.chapters.base import Chapter, nothing
from robusteval.reports.grid import Grid

BALLS = ("l1", "l2", "linf")


def quantities(p: str, q: str) -> tuple[str, str]:
    """What the metric calls the (p, q) norm, exact and as a lower estimate."""
    exact = f"operator_norm_{p.removeprefix('l')}_{q.removeprefix('l')}"
    return exact, f"{exact}_at_least"


def grids(results: Results) -> list[Grid]:
    return [_norms(stage) for stage in measured_stages(results, "operator-norm") if len(stage.measured)]


def _norms(stage: MeasuredStage) -> Grid:
    found = stage.means(set(stage.measured["quantity"])).set_index("quantity")

    def cell(p: str, q: str) -> str:
        for prefix, quantity in zip(("", "at least "), quantities(p, q), strict=True):
            if quantity in found.index:
                mean, error = (float(found[column][quantity]) for column in ("mean", "standard_error"))
                return f"{prefix}{show.significant(mean)} ± {show.significant(error)}"
        return "-"

    rows = [[Norm(p).symbol, *(cell(p, q) for q in BALLS)] for p in BALLS]
    what = "penultimate features" if stage.settings.get("of") == "features" else "logits"
    note = (
        f"How far the {what} can move at most, to first order, when the pixels move by 1: the mean over the images, "
        "and its standard error. At least: a lower estimate by the power method, where the exact number is out of "
        "reach."
    )
    headings = ["Pixels move by 1 in", *(f"{what} move in {Norm(q).symbol} by" for q in BALLS)]
    return Grid(f"Operator norms of the Jacobian of the {what} (OpNorm, table 1)", headings, rows, note=note)


CHAPTER = Chapter("operator-norm", "Operator norms", nothing, grids)
