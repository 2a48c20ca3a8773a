"""OpNorm (2020): table 2, and figures 2 (left) and 3 as tables."""

from __future__ import annotations

from collections.abc import Sequence

from robusteval.reports import names, show
from robusteval.reports.papers.cells import Model, percent
from robusteval.reports.sections import Grid
from robusteval.reports.show import Round

ATTACKS = {"pga-l2": "l2", "pga-linf": "linf"}
"""Label in the protocol -> norm."""
RANKS = (1, 2, 3, 5, 10, 20)
SPECTRA = {"clean": "singular_value", "adversarial": "singular_value_adversarial"}


def tables(models: Sequence[Model]) -> list[Grid]:
    """The paper's table 1 is a theorem's; it has nothing to measure."""
    return [_accuracy(models), _spectrum(models), *(_curve(models, label, norm) for label, norm in ATTACKS.items())]


def _accuracy(models: Sequence[Model]) -> Grid:
    rows = [[model.name, percent(model.clean, Round.NEAREST)] for model in models]
    return Grid("Table 2", ["Training method", "Test accuracy"], rows, note="In %.", name="table-2")


def _spectrum(models: Sequence[Model]) -> Grid:
    rows = [
        [model.name, at, *(show.significant(model.measurement("jacobian-spectrum", quantity, r)) for r in RANKS)]
        for model in models
        for at, quantity in SPECTRA.items()
    ]
    note = (
        "Mean singular values of the penultimate features' Jacobian by rank, at the images and at their witnesses. "
        "Figures 2 (right), 4 and 5 (alignment, linearity, activation patterns) need metrics that no stage measured; "
        "figure 7 needs training runs."
    )
    headings = ["Training method", "at", *(f"rank {r}" for r in RANKS)]
    return Grid("Figure 2 (left)", headings, rows, text=2, note=note, name="figure-2")


def _curve(models: Sequence[Model], label: str, norm: str) -> Grid:
    budgets = sorted({b for model in models if (entry := model.stage(label)) for b in entry["budgets"]})
    rows = [
        [model.name, percent(model.clean, Round.NEAREST), *map(percent, model.standing(norm, budgets, label))]
        for model in models
    ]
    title = f"Figure 3, {names.NORMS[norm]}"
    note = f"Accuracy in % under {names.NORMS[norm]} projected gradient ascent of 10 steps, by its budget."
    headings = ["Training method", "0", *map(show.budget, budgets)]
    return Grid(title, headings, rows, note=note, name=f"figure-3-{norm}")
