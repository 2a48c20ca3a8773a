"""GradReg (ICLR 2020 submission): tables 1, 2, 3, 5 and 6, and figure 1 as a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from robusteval.analysis import show
from robusteval.analysis.by_label import ByLabel
from robusteval.analysis.show import Round
from robusteval.numerics.binomial import certified_radius
from robusteval.reports.grid import Grid
from robusteval.reports.papers.cells import NONE, counted, percent_cell

LINF = (2 / 255, 8 / 255)
SMOOTHING = ("smoothing-0.25", "smoothing-0.5", "smoothing-1")
"""Labels in the protocol; the number is sigma."""
OMEGA = {"sampled": "omega-bound-{norm}", "by ascent": "omega-bound-{norm}-ascent"}
"""How omega was found, the paper's way first -> label in the protocol."""
RADII = (0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 1.75, 2.0)
CURVES = {"l2": (0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0, 1.5, 2.0), "linf": tuple(n / 255 for n in (1, 2, 4, 8, 12, 16))}
TIME = "training time (hours)"
TIMED = "The training time is that on the machine that trained the model, as its card says; a dash without a card."
ABOVE = "above a witness"
FOUND = (
    "omega is sampled, as in the paper, or found by ascent, which gives larger ones and smaller bounds. Both are "
    "estimates: above a witness is on how many images with one the bound is refuted."
)
TOP1 = "Errors are top 1 (the paper's ImageNet rows: top 5)."


def tables(models: Sequence[ByLabel]) -> list[Grid]:
    """Table 4 has columns of table 1, for models of another training."""
    return [
        _errors(models),
        _distances(models),
        _regularity(models),
        _empirical_errors(models),
        _smoothed(models),
        *(_omega(models, how) for how in OMEGA),
        *_figure(models),
    ]


def _errors(models: Sequence[ByLabel]) -> Grid:
    at = [show.budget(b) for b in LINF]
    labels = {how: label.format(norm="linf") for how, label in OMEGA.items()}
    rows = [
        [
            model.name,
            percent_cell(model.error, Round.NEAREST),
            *(percent_cell(e, Round.UP) for label in labels.values() for e in model.uncovered(label, LINF)),
            *(percent_cell(e, Round.DOWN) for e in model.broken("linf", LINF)),
            _hours(model),
            *(_above(model, label, "linf") for label in labels.values()),
        ]
        for model in models
    ]
    headings = ["Model", "% clean error", *(f"omega-bound ({how}) % error at {b}" for how in labels for b in at)]
    headings += [*(f"empirical % error at {b}" for b in at), TIME, *(f"omega-bound ({how}) {ABOVE}" for how in labels)]
    note = f"In Linf. Empirical: the closest witness of all attacks. {FOUND} {TOP1} {TIMED}"
    return Grid("Table 1", headings, rows, note=note, name="table-1")


def _above(model: ByLabel, label: str, norm: str) -> str:
    if model.stage(label) is None:
        return NONE
    above, images = model.above_witnesses(label, norm)
    return f"{above:,} of {images:,}"


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
    labels = {"L-bound": "l-bound-l2"}
    labels |= {f"omega-bound ({how})": label.format(norm="l2") for how, label in OMEGA.items()}
    rows = [
        [
            model.name,
            percent_cell(model.error, Round.NEAREST),
            *(_bound(model, label) for label in labels.values()),
            _empirical(model),
            _hours(model),
            *(_above(model, label, "l2") for label in labels.values()),
        ]
        for model in models
    ]
    headings = ["Model", "% clean error", *labels, "empirical", TIME, *(f"{bound} {ABOVE}" for bound in labels)]
    note = (
        "Mean adversarial distance in L2, misclassified images counting as 0: the estimated lower bounds, and the "
        f"closest witness of all attacks. {FOUND} {TOP1} {TIMED}"
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
        numbers += [
            model.statistic(label.format(norm="l2"), "omega", eps) for label in OMEGA.values() for eps in (0.5, 1.0)
        ]
        rows.append([model.name, *map(show.significant, numbers)])
    headings = ["Model", "|grad l| mean", "|grad l| max"]
    headings += [f"omega({eps}) {how}" for how in OMEGA for eps in ("0.5", "1.0")]
    note = "In L2, of the loss max over i != c of p_i - p_c. The paper samples omega."
    return Grid("Table 3", headings, rows, note=note, name="table-3")


def _smoothed(models: Sequence[ByLabel]) -> Grid:
    rows = []
    for model in models:
        caps = {label: cap for label in SMOOTHING if (cap := _cap(model, label))}
        cells = [_certified(model, caps, radius) for radius in RADII]
        rows.append([model.name, *cells, show.lower(max(caps.values()), "l2") if caps else NONE])
    note = (
        "Certified error in % at L2 radii, of the smoothed models, at each radius with the sigma (0.25, 0.5 or 1) that "
        "leaves the least: abstentions and wrong classes count as errors. At most: the radius of an image on which all "
        "samples agree. Beyond it no model could be certified, which says nothing of this one: a dash. The paper's row "
        "of Cohen et al. is a model trained with Gaussian augmentation; Salman et al. train otherwise."
    )
    return Grid("Table 5", ["Model", *(f"{r:g}" for r in RADII), "at most"], rows, note=note, name="table-5")


def _cap(model: ByLabel, label: str) -> float | None:
    """The largest radius that the samples of a smoothing could certify; None if it did not run."""
    record = model.stage(label)
    if record is None:
        return None
    n, alpha, sigma = (record.settings[name] for name in ("n", "alpha", "sigma"))
    return float(certified_radius(n, n, alpha, sigma))


def _certified(model: ByLabel, caps: Mapping[str, float], radius: float) -> str:
    """The smallest error at a radius, among the stages whose samples reach as far."""
    errors = [model.uncovered(label, [radius])[0] for label, cap in caps.items() if cap >= radius]
    return percent_cell(min(errors), Round.UP) if errors else NONE


def _omega(models: Sequence[ByLabel], how: str) -> Grid:
    shown, label = RADII[:6], OMEGA[how].format(norm="l2")
    rows = [
        [model.name, *(percent_cell(e, Round.UP) for e in model.uncovered(label, shown)), _above(model, label, "l2")]
        for model in models
    ]
    note = f"Error in % at L2 radii by the omega-bound: an estimate, though the paper calls it certified. {FOUND}"
    name = f"table-6-{how.replace(' ', '-')}" if how != next(iter(OMEGA)) else "table-6"
    title = f"Table 6, omega {how}"
    return Grid(title, ["Model", *(f"{r:g}" for r in shown), ABOVE], rows, note=note, name=name)


def _figure(models: Sequence[ByLabel]) -> list[Grid]:
    grids = []
    for part, (norm, budgets) in zip("ab", CURVES.items(), strict=True):
        rows = [[model.name, *(percent_cell(e, Round.DOWN) for e in model.broken(norm, budgets))] for model in models]
        title = f"Figure 1 ({part}), {'L2' if norm == 'l2' else 'Linf'}"
        note = "Misclassified in % within each distance, by the closest witness of all attacks. Figure 2 is the same."
        headings = ["Model", *(show.budget(b) for b in budgets)]
        grids.append(Grid(title, headings, rows, note=note, name=f"figure-1{part}"))
    return grids
