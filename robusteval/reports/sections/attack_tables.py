"""Tables of a report: what the attacks achieved, how far they had to go, who came closest."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from robusteval.analysis import names, show
from robusteval.analysis.distances import DistanceSummary, Reach
from robusteval.analysis.intervals import Mean
from robusteval.analysis.show import Round
from robusteval.analysis.summary import Summary
from robusteval.core.norms import Norm
from robusteval.reports.grid import Grid

COLUMNS = 6
"""Of more budgets a table shows only so many; curves have them all."""


def attack_grids(summary: Summary) -> list[Grid]:
    """Per norm: what each attack achieved at each budget, and what that took."""
    found = []
    for norm in summary.norms:
        rows = [c for c in summary.costs if c.kind == "attack" and c.available and c.norm == norm]
        asked = {r.budget for r in summary.robust if r.norm == norm and r.budget is not None}
        tried = {s.budget for c in rows for s in c.successes}
        shared = sorted(b for b in tried if b is not None)
        budgets = [*_some(shared, asked), *([None] if None in tried else [])]
        if rows:
            grid = []
            for c in rows:
                at = {s.budget: show.percent(s.share.value, Round.DOWN) for s in c.successes}
                middle = show.upper(c.median.value, norm) if c.median else "-"
                grid.append([names.bare(c.title, norm), *(at.get(b, "-") for b in budgets), middle])
            headings = ["Attack", *(f"fooled at {_at(b)}" for b in budgets), "median distance"]
            found.append(Grid(f"Attacks in {Norm(norm).symbol}", headings, grid))
    return found


def _at(budget: float | None) -> str:
    return "its own" if budget is None else show.budget(budget)


def _some(budgets: list[float], first: set[float]) -> list[float]:
    """At most COLUMNS of them, those of the protocol first, then evenly from the smallest to the largest."""
    rest = [b for b in budgets if b not in first]
    wanted = min(max(COLUMNS - len(first), 0), len(rest))
    even = np.linspace(0, len(rest) - 1, wanted).round().astype(int)
    return sorted({*first.intersection(budgets), *(rest[i] for i in even)})


def distance_grids(found: DistanceSummary) -> list[Grid]:
    """How far the attacks had to go, per norm; the areas under their curves; who came closest; what else they
    measured."""
    norms = list(dict.fromkeys(r.norm for r in found.reaches))
    grids = [*(_minimum(n, found.reaches) for n in norms), *(_averaged(n, found.reaches) for n in norms)]
    grids += [_wins(found), _stages(found), _measured(found)]
    return [g for g in grids if g.rows]


def _minimum(norm: str, found: Sequence[Reach]) -> Grid:
    rows = [r for r in found if r.norm == norm and r.own]
    headings = ["Attack", "not found", "mean of found", "95 % interval", "median", "95 % interval"]
    headings += {"l2": ["mean square", "relative"], "linf": ["relative"]}.get(norm, [])
    cells = []
    for r in rows:
        cell = [names.bare(r.title, norm), f"{r.failures:,}", *_mean(r.mean, norm)]
        cell += [show.upper(r.median.value, norm), show.distances(r.median.low, r.median.high, norm)]
        if norm == "l2":
            cell.append(show.significant(r.mean_square))
        if norm in ("l2", "linf"):
            cell.append(show.significant(r.relative))
        cells.append(cell)
    note = (
        "Over all images, a misclassified one at 0. The mean leaves out the images without a witness, which are "
        "counted beside it; the median takes them as infinite. Distances of an attack with fixed budgets are those of "
        "its witness at the smallest budget that broke the image."
    )
    if norm == "l2":
        note += (
            " Mean square: squared distance over the number of pixel values (Moments' energy). Relative: distance over "
            "the size of the image, which is rho_adv for DeepFool."
        )
    return Grid(f"Minimum distances in {Norm(norm).symbol}", headings, cells, note=note)


def _mean(mean: Mean, norm: str) -> list[str]:
    if not mean.n:
        return [show.NONE_FOUND, "-"]
    interval = show.distances(mean.low, mean.high, norm) if np.isfinite(mean.high) else "-"
    return [show.upper(mean.value, norm), interval]


def _averaged(norm: str, found: Sequence[Reach]) -> Grid:
    rows = [r for r in found if r.norm == norm and r.own and r.areas]
    limits = [limit for limit, _ in rows[0].areas] if rows else []
    headings = ["Attack", *(h for x in limits for h in (f"over [0, {show.budget(x)}]", "95 % interval"))]
    cells = []
    for r in rows:
        cell = [names.bare(r.title, norm)]
        for _, share in r.areas:
            cell += [show.percent(share.value, Round.UP), show.percents(share.low, share.high)] if share else ["-", "-"]
        cells.append(cell)
    note = (
        "Accuracy averaged over all budgets of the range: the area under the curve, over its width. At most, as "
        "every accuracy under attack. None where an attack was tried at smaller budgets only."
    )
    return Grid(f"Averaged accuracy in {Norm(norm).symbol}", headings, cells, note=note)


def _wins(found: DistanceSummary) -> Grid:
    counts = found.wins
    rows = [[title, *(f"{n:,}" for n in row)] for title, row in zip(counts.index, counts.to_numpy(), strict=True)]
    headings = ["Attack", *(f"closest in {Norm(n).symbol}" for n in counts.columns)]
    note = "Images on which each attack found the closest witness of all, the first of equals."
    return Grid("Closest witness of each image", headings, rows if len(counts.columns) else [], note=note)


def _stages(found: DistanceSummary) -> Grid:
    rows = [[title, stage, f"{images:,}"] for title, stage, images in found.stage_wins]
    return Grid("What broke the images inside an ensemble", ["Attack", "stage", "images"], rows, text=2)


def _measured(found: DistanceSummary) -> Grid:
    rows = [
        [title, quantity, show.significant(at), f"{n:,}", show.significant(mean), show.significant(middle)]
        for title, quantity, at, n, mean, middle in found.measurements
    ]
    headings = ["Attack", "quantity", "at", "images", "mean", "median"]
    return Grid("What attacks measured beside distances", headings, rows, text=2)
