"""GradReg (ICLR 2020 submission): tables 1, 2, 3, 5 and 6, and figure 1 as a table."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from robusteval.analysis import show
from robusteval.analysis.by_label import ByLabel
from robusteval.analysis.show import Round
from robusteval.reports.grid import Grid
from robusteval.reports.papers.cells import NONE, counted, percent_cell

LINF = (2 / 255, 8 / 255)
SMOOTHING = {"smoothing-0.25": 0.25, "smoothing-0.5": 0.5, "smoothing-1": 1.0}
"""Label in the protocol -> sigma."""
RADII = (0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 1.75, 2.0)
CURVES = {"l2": (0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0, 1.5, 2.0), "linf": tuple(n / 255 for n in (1, 2, 4, 8, 12, 16))}
TIME = "training time (hours)"
TIMED = "The training time is that on the machine that trained the model, as its card says; a dash without a card."
TOP1 = "Errors are top 1 (the paper's ImageNet rows: top 5)."


def tables(models: Sequence[ByLabel]) -> list[Grid]:
    """Table 4 has columns of table 1, for models of another training."""
    return [
        _errors(models),
        _distances(models),
        _regularity(models),
        _empirical_errors(models),
        _smoothed(models),
        _omega(models),
        *_figure(models),
    ]


def _errors(models: Sequence[ByLabel]) -> Grid:
    at = [show.budget(b) for b in LINF]
    rows = [
        [
            model.name,
            percent_cell(model.error, Round.NEAREST),
            *(percent_cell(e, Round.UP) for e in model.uncovered("omega-bound-linf", LINF)),
            *(percent_cell(e, Round.DOWN) for e in model.broken("linf", LINF)),
            _hours(model),
        ]
        for model in models
    ]
    headings = ["Model", "% clean error", *(f"omega-bound % error at {b}" for b in at)]
    headings += [*(f"empirical % error at {b}" for b in at), TIME]
    note = f"In Linf. Empirical: the closest witness of all attacks. {TOP1} {TIMED}"
    return Grid("Table 1", headings, rows, note=note, name="table-1")


def _hours(model: ByLabel) -> str:
    seconds = model.manifest.model.training_seconds
    return NONE if seconds is None else show.significant(seconds / 3600)


def _empirical_errors(models: Sequence[ByLabel]) -> Grid:
    rows = [
        [
            model.name,
            percent_cell(model.error, Round.NEAREST),
            *(percent_cell(e, Round.DOWN) for e in model.broken("linf", LINF)),
        ]
        for model in models
    ]
    headings = ["Model", "% clean error", *(f"empirical % error at {show.budget(b)}" for b in LINF)]
    note = "In Linf, the closest witness of all attacks. The paper's rows are step sizes h of training, one model each."
    return Grid("Table 4", headings, rows, note=note, name="table-4")


def _distances(models: Sequence[ByLabel]) -> Grid:
    rows = [
        [
            model.name,
            percent_cell(model.error, Round.NEAREST),
            *(_bound(model, label) for label in ("l-bound-l2", "omega-bound-l2")),
            _empirical(model),
            _hours(model),
        ]
        for model in models
    ]
    headings = ["Model", "% clean error", "L-bound", "omega-bound", "empirical", TIME]
    note = (
        "Mean adversarial distance in L2, misclassified images counting as 0: the two estimated lower bounds, and the "
        f"closest witness of all attacks. {TOP1} {TIMED}"
    )
    return Grid("Table 2", headings, rows, note=note, name="table-2")


def _bound(model: ByLabel, label: str) -> str:
    return NONE if model.stage(label) is None else show.lower(float(model.radii(label).mean()), "l2")


def _empirical(model: ByLabel) -> str:
    far = model.distances("l2")
    found = far[np.isfinite(far)]
    text = show.upper(float(found.mean()), "l2") if len(found) else show.NONE_FOUND
    return counted(text, len(far) - len(found))


def _regularity(models: Sequence[ByLabel]) -> Grid:
    rows = []
    for model in models:
        numbers = [model.measurement("l-bound-l2", "gradient_norm")]
        numbers += [model.statistic("l-bound-l2", "observed_maximum")]
        for search in ("omega_sampled", "omega_ascent"):
            numbers += [model.statistic("omega-bound-l2", search, eps) for eps in (0.5, 1.0)]
        rows.append([model.name, *map(show.significant, numbers)])
    headings = ["Model", "|grad l| mean", "|grad l| max", "omega(0.5)", "omega(1.0)"]
    headings += ["omega(0.5) by ascent", "omega(1.0) by ascent"]
    note = (
        "In L2, of the loss max over i != c of p_i - p_c. The paper samples omega; tables 1, 2 and 6 use the one found "
        "by ascent."
    )
    return Grid("Table 3", headings, rows, note=note, name="table-3")


def _smoothed(models: Sequence[ByLabel]) -> Grid:
    rows = [
        [f"{model.name}, sigma {sigma:g}", *(percent_cell(e, Round.UP) for e in model.uncovered(label, RADII))]
        for model in models
        for label, sigma in SMOOTHING.items()
        if model.stage(label)
    ]
    note = (
        "Certified error in % at L2 radii, of the smoothed models: abstentions and wrong classes count as errors. The "
        "paper's row of Cohen et al. is a model trained with Gaussian augmentation; Salman et al. train otherwise."
    )
    return Grid("Table 5", ["Model", *(f"{r:g}" for r in RADII)], rows, note=note, name="table-5")


def _omega(models: Sequence[ByLabel]) -> Grid:
    shown = RADII[:6]
    rows = [
        [model.name, *(percent_cell(e, Round.UP) for e in model.uncovered("omega-bound-l2", shown))] for model in models
    ]
    note = "Error in % at L2 radii by the omega-bound: an estimate, though the paper calls it certified."
    return Grid("Table 6", ["Model", *(f"{r:g}" for r in shown)], rows, note=note, name="table-6")


def _figure(models: Sequence[ByLabel]) -> list[Grid]:
    grids = []
    for part, (norm, budgets) in zip("ab", CURVES.items(), strict=True):
        rows = [[model.name, *(percent_cell(e, Round.DOWN) for e in model.broken(norm, budgets))] for model in models]
        title = f"Figure 1 ({part}), {'L2' if norm == 'l2' else 'Linf'}"
        note = "Misclassified in % within each distance, by the closest witness of all attacks. Figure 2 is the same."
        headings = ["Model", *(show.budget(b) for b in budgets)]
        grids.append(Grid(title, headings, rows, note=note, name=f"figure-1{part}"))
    return grids
