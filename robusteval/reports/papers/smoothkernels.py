"""SmoothKernels (ICLR 2020 submission): table 1, figures 1, 7, 8 and 9 as tables, and the numbers behind the images
of appendices C and D."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from robusteval.analysis.by_label import ByLabel
from robusteval.analysis.metrics.kernels import layers
from robusteval.analysis.metrics.measured import measured_stages
from robusteval.analysis.show import Round, budget, fixed, significant
from robusteval.core.norms import Norm
from robusteval.reports.grid import Grid
from robusteval.reports.papers.cells import NONE, counted, fraction

ATTACKS = {
    "FGSM": "fgsm",
    "PGD": "pgd",
    "DF(L2)": "deepfool-l2",
    "DF(Linf)": "deepfool-linf",
    "C&W": "carlini-wagner",
    "ADef": "adef",
    "S&P": "salt-and-pepper",
}
"""The paper's abbreviation -> label in the protocol."""
KERNELS = "kernels"
LIMITS = {"table-1": math.inf, "table-1-0.1": 0.1, "table-1-0.05": 0.05}
"""Linf distance up to which a witness counts: none for the paper's MNIST and FashionMNIST, then its CIFAR10 and
Restricted ImageNet."""
CURVES = {
    "figure-7": ("l0", (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)),
    "figure-8": ("l2", (0.1, 0.25, 0.5, 1.0, 1.5, 2.0, 3.0, 5.0)),
    "figure-9": ("linf", (0.01, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.5)),
}


TARGETED = "targeted-grid"
DECEPTIONS = {"FGSM": "deception-fgsm", "ADef": "deception-adef"}
"""The attack -> label in the protocol of the confidence at its witnesses."""


def tables(models: Sequence[ByLabel]) -> list[Grid]:
    """Table 1 without a limit and at the paper's two, figure 1, the curves, then appendices C and D."""
    return [
        *(_accuracy(models, name, limit) for name, limit in LIMITS.items()),
        _kernels(models),
        *(_curve(models, n) for n in CURVES),
        _targeted(models),
        _deception(models),
    ]


def _accuracy(models: Sequence[ByLabel], name: str, limit: float) -> Grid:
    rows = [
        [
            model.name,
            fixed(model.clean, 3, Round.NEAREST),
            *(_standing(model, label, limit) for label in ATTACKS.values()),
        ]
        for model in models
    ]
    far = "at any distance" if math.isinf(limit) else f"within an Linf distance of {limit:g}"
    title = "Table 1, no limit: failures of the search" if math.isinf(limit) else f"Table 1, Linf at most {limit:g}"
    note = (
        f"Share of images for which an attack found no witness {far}, a misclassified one counting as wrong; "
        "attacks search the closest witness in their own norm. Not found: images for which it found none at any "
        "distance. A model that sees more than one class has a witness of every image somewhere, so that this is a "
        "failure of the search and no robustness, "
        f"{'all that this table shows, ' if math.isinf(limit) else ''}though the paper counts it as a measure of it. "
        "The paper's rows are training losses, one model each."
    )
    return Grid(title, ["Model", "clean", *ATTACKS], rows, note=note, name=name)


def _standing(model: ByLabel, label: str, limit: float) -> str:
    """The share of images that stand, with the number of those of which no witness was found at all."""
    (share,) = model.standing("linf", [limit], label)
    return counted(fraction(share), 0 if math.isnan(share) else int(np.isinf(model.distances("linf", label)).sum()))


def _curve(models: Sequence[ByLabel], name: str) -> Grid:
    norm, budgets = CURVES[name]
    rows = [
        [title, model.name, *map(fraction, model.standing(norm, budgets, label))]
        for title, label in ATTACKS.items()
        for model in models
    ]
    note = f"Share of images without a witness of the attack within each {Norm(norm).symbol} distance."
    title = name.replace("figure-", "Figure ")
    return Grid(f"{title}, {Norm(norm).symbol}", ["Attack", "Model", *map(budget, budgets)], rows, 2, note, name)


def _kernels(models: Sequence[ByLabel]) -> Grid:
    rows = []
    for name, stage in ((model.name, stage) for model in models for stage in measured_stages(model, KERNELS)):
        for _, row in layers(stage).iterrows():
            numbers = (significant(row[quantity]) for quantity in ("smoothness", "smoothness_normalised"))
            share = row["high_frequency_share"]
            rows.append([name, str(row["layer"]), *numbers, NONE if math.isnan(share) else fixed(share, 3)])
    note = (
        "The penalty R0, that over the sum of squared weights, and the share of the kernels' energy above half the "
        "Nyquist frequency (0.80 for white kernels). The paper's figure shows kernels, their Fourier magnitude and "
        "responses as images; they are in the model's own report."
    )
    headings = ["Model", "Layer", "R0", "R0 / sum of squares", "energy above half Nyquist"]
    return Grid("Figure 1", headings, rows, text=2, note=note, name="figure-1")


def _targeted(models: Sequence[ByLabel]) -> Grid:
    rows = []
    for model in models:
        reached, probability = (model.statistics_of(TARGETED, q) for q in ("reached", "target_probability"))
        share = f"{int(reached.sum()):,} of {len(reached):,}" if len(reached) else NONE
        rows.append([model.name, share, _nearest(float(probability.mean()))])
    note = (
        "One image of each class, attacked towards each other class; the images are in the model's own report. "
        "The paper shows them alone, without its budget."
    )
    headings = ["Model", "targets reached", "mean probability of the target"]
    return Grid("Figures 10 to 37, targeted attacks", headings, rows, note=note, name="figure-10")


def _deception(models: Sequence[ByLabel]) -> Grid:
    rows = [
        [model.name, *(_nearest(model.measurement(label, "deceptive_confidence")) for label in DECEPTIONS.values())]
        for model in models
    ]
    note = (
        "Mean softmax probability of the wrong class predicted at the closest witness, over the images with one; the "
        "most deceptive witness of each class is in the model's own report."
    )
    title = "Figures 2, 38 and 39, confidence in the wrong class"
    return Grid(title, ["Model", *DECEPTIONS], rows, note=note, name="figure-38")


def _nearest(value: float) -> str:
    return NONE if math.isnan(value) else fixed(value, 3)
