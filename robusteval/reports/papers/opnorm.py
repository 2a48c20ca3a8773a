"""OpNorm (2020): table 2, and figures 2 and 3 as tables."""

from __future__ import annotations

from collections.abc import Sequence

from robusteval.reports import names, show
from robusteval.reports.papers.cells import Model, percent
from robusteval.reports.sections import Grid
from robusteval.reports.show import Round

ATTACKS = {"pga-l2": "l2", "pga-linf": "linf"}
"""Label in the protocol -> norm."""
RANKS = (1, 2, 3, 5, 10, 20, 50, 100, 200)
SPECTRA = {
    "clean": "singular_value",
    "adversarial": "singular_value_adversarial",
    "random weights": "singular_value_twin",
}
MAPS = {"features": "jacobian-spectrum", "logits": "jacobian-spectrum-logits"}
"""Whose Jacobian -> label in the protocol; the paper's is that of the features."""
ALIGNED = {"trained": "alignment", "random weights": "alignment_twin"}
ALIGNMENTS = {"L2": "alignment-pga-l2", "Linf": "alignment-pga-linf"}
"""Norm of the ascent -> label in the protocol."""


def tables(models: Sequence[Model]) -> list[Grid]:
    """The paper's table 1 is a theorem's; it has nothing to measure."""
    figure_3 = (_curve(models, label, norm) for label, norm in ATTACKS.items())
    return [_accuracy(models), _spectrum(models), _alignment(models), *figure_3]


def _accuracy(models: Sequence[Model]) -> Grid:
    rows = [[model.name, percent(model.clean, Round.NEAREST)] for model in models]
    return Grid("Table 2", ["Training method", "Test accuracy"], rows, note="In %.", name="table-2")


def _spectrum(models: Sequence[Model]) -> Grid:
    rows = [
        [model.name, of, at, *_by_rank(model, label, quantity)]
        for model in models
        for of, label in MAPS.items()
        for at, quantity in SPECTRA.items()
    ]
    note = (
        "Mean singular values of the Jacobian by rank: at the images, at their witnesses under ascent in L2, and at "
        "the images with random weights in place of the trained ones. The paper shows those of the features. "
        "Figures 4 and 5 (linearity, activation patterns) need metrics that no stage measured; figure 7 needs training "
        "runs."
    )
    headings = ["Training method", "of the", "at", *(f"rank {r}" for r in RANKS)]
    return Grid("Figure 2 (left)", headings, rows, text=3, note=note, name="figure-2")


def _alignment(models: Sequence[Model]) -> Grid:
    rows = [
        [model.name, norm, of, *_by_rank(model, label, quantity)]
        for model in models
        for norm, label in ALIGNMENTS.items()
        for of, quantity in ALIGNED.items()
    ]
    note = (
        "Mean magnitude of the cosine between the perturbation of projected gradient ascent and the right singular "
        "vectors of the penultimate features' Jacobian, of the network and of one with random weights."
    )
    headings = ["Training method", "ascent in", "vectors of", *(f"rank {r}" for r in RANKS)]
    return Grid("Figure 2 (right)", headings, rows, text=3, note=note, name="figure-2-right")


def _by_rank(model: Model, label: str, quantity: str) -> list[str]:
    return [show.significant(model.measurement(label, quantity, r)) for r in RANKS]


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
