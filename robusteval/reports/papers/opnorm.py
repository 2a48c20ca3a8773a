"""OpNorm (2020): tables 1 and 2, and figures 2 to 5 as tables."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from robusteval.analysis import show
from robusteval.analysis.by_label import ByLabel
from robusteval.analysis.show import Round
from robusteval.core.norms import Norm
from robusteval.reports.chapters.operator_norm import BALLS, quantities
from robusteval.reports.grid import Grid
from robusteval.reports.papers.cells import percent_cell
from robusteval.results.records import AttackRecord

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
ALIGNMENTS = {
    "L2": "alignment-pga-l2",
    "Linf": "alignment-pga-linf",
    "L2, of the logits' L2 distance": "alignment-pga-logits-l2",
}
"""Norm of the ascent, and what it climbs where that is not the cross-entropy -> label in the protocol."""

DEVIATIONS = {"random": "deviation_random", "adversarial": "deviation_adversarial"}
LARGEST = {"random": "largest_singular_value_random", "adversarial": "largest_singular_value_adversarial"}
AT_DATA = {"random": "unchanged_at_data", "adversarial": "unchanged_adversarial"}
AT_NOISE = {"random": "unchanged_at_noise"}


def tables(models: Sequence[ByLabel]) -> list[Grid]:
    features = "Mean {} of the penultimate features by the L2 distance from the image; adversarial is towards the "
    features += "end of the L2 ascent."
    relus = "Mean share of unchanged ReLUs in % by the magnitude of uniform noise, {}."
    images = "at the images; adversarial: towards the end of the L2 ascent, as far as that noise reaches"
    return [
        _norms(models),
        _accuracy(models),
        _spectrum(models),
        _alignment(models),
        *(_curve(models, label, norm) for label, norm in ATTACKS.items()),
        _along(models, "Figure 4 (left)", "linearity", DEVIATIONS, features.format("deviation from linearity")),
        _along(models, "Figure 4 (right)", "linearity", LARGEST, features.format("largest singular value")),
        _along(models, "Figure 5 (left)", "activation-patterns", AT_DATA, relus.format(images)),
        _along(models, "Figure 5 (right)", "activation-patterns", AT_NOISE, relus.format("at uniform noise")),
    ]


def _norms(models: Sequence[ByLabel]) -> Grid:
    rows = [[model.name, Norm(p).symbol, *(_norm(model, p, q) for q in BALLS)] for model in models for p in BALLS]
    note = (
        "The paper says how each (p, q) operator norm is computed; these are their means over the images, of the "
        "Jacobian of the logits. At least: a lower estimate by the power method."
    )
    headings = ["Training method", "Domain", *(f"Co-domain {Norm(q).symbol}" for q in BALLS)]
    return Grid("Table 1", headings, rows, text=2, note=note, name="table-1")


def _norm(model: ByLabel, p: str, q: str) -> str:
    exact, least = (model.measurement("operator-norm", quantity) for quantity in quantities(p, q))
    return show.significant(exact) if math.isnan(least) else f"at least {show.significant(least)}"


def _accuracy(models: Sequence[ByLabel]) -> Grid:
    rows = [[model.name, percent_cell(model.clean, Round.NEAREST)] for model in models]
    return Grid("Table 2", ["Training method", "Test accuracy"], rows, note="In %.", name="table-2")


def _spectrum(models: Sequence[ByLabel]) -> Grid:
    rows = [
        [model.name, of, at, *_by_rank(model, label, quantity)]
        for model in models
        for of, label in MAPS.items()
        for at, quantity in SPECTRA.items()
    ]
    note = (
        "Mean singular values of the Jacobian by rank: at the images, where the ascent in L2 from them ends, and at "
        "the images with random weights in place of the trained ones. The paper shows those of the features. "
        "Figure 7 is of networks trained with both objectives at once, which no defense here does."
    )
    headings = ["Training method", "of the", "at", *(f"rank {r}" for r in RANKS)]
    return Grid("Figure 2 (left)", headings, rows, text=3, note=note, name="figure-2")


def _alignment(models: Sequence[ByLabel]) -> Grid:
    rows = [
        [model.name, norm, of, *_by_rank(model, label, quantity)]
        for model in models
        for norm, label in ALIGNMENTS.items()
        for of, quantity in ALIGNED.items()
    ]
    note = (
        "Mean magnitude of the cosine between the perturbation of projected gradient ascent and the right singular "
        "vectors of the penultimate features' Jacobian, of the network and of one with random weights. All steps of "
        "the ascent at one budget, from all images. That of the logits' distance takes so long steps that it is the "
        "power method (theorem 1), for the logits' Jacobian."
    )
    headings = ["Training method", "ascent in", "vectors of", *(f"rank {r}" for r in RANKS)]
    return Grid("Figure 2 (right)", headings, rows, text=3, note=note, name="figure-2-right")


def _by_rank(model: ByLabel, label: str, quantity: str) -> list[str]:
    return [show.significant(model.measurement(label, quantity, r)) for r in RANKS]


def _curve(models: Sequence[ByLabel], label: str, norm: str) -> Grid:
    budgets = sorted(
        {b for model in models if isinstance(entry := model.stage(label), AttackRecord) for b in entry.budgets}
    )
    rows = [
        [model.name, percent_cell(model.clean, Round.NEAREST), *map(percent_cell, model.standing(norm, budgets, label))]
        for model in models
    ]
    title = f"Figure 3, {Norm(norm).symbol}"
    note = f"Accuracy in % under {Norm(norm).symbol} projected gradient ascent of 10 steps, by its budget."
    headings = ["Training method", "0", *map(show.budget, budgets)]
    return Grid(title, headings, rows, note=note, name=f"figure-3-{norm}")


def _along(models: Sequence[ByLabel], title: str, label: str, lines: Mapping[str, str], note: str) -> Grid:
    """Means of `lines` (direction -> quantity) wherever some model has them measured."""
    at = sorted({a for model in models for quantity in lines.values() for a in model.places(label, quantity)})
    rows = [
        [model.name, way, *(_mean(model, label, quantity, a) for a in at)]
        for model in models
        for way, quantity in lines.items()
    ]
    name = title.lower().replace(" (", "-").replace(" ", "-").rstrip(")")
    return Grid(title, ["Training method", "Direction", *(f"{a:g}" for a in at)], rows, text=2, note=note, name=name)


def _mean(model: ByLabel, label: str, quantity: str, at: float) -> str:
    value = model.measurement(label, quantity, at)
    return percent_cell(value, Round.NEAREST) if quantity.startswith("unchanged") else show.significant(value)
