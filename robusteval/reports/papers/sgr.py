"""SGR (ICLR 2019 submission): table 1, and figures 1, 2 and 5 (decay lengths), 3 (left), 4 and 6 as tables."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import combinations

from robusteval.analysis.by_label import ByLabel
from robusteval.analysis.show import Round, fixed
from robusteval.reports.grid import Grid
from robusteval.reports.papers.cells import NONE, counted, percent_cell

WHITE_BOX = {"RAND": "rand", "PGD": "pgd", "T-PGD": "t-pgd"}
"""Heading -> label in the protocol."""
TRANSFER, FOOL = "transfer", "fool"
ZETAS = (1, 2, 4, 8, 16)
STRENGTHS = (0.01, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7)
AT = 0.3
"""The strength of figure 3."""
LRC = "lrc"
"""Of the labels of long-range noise: -ZETA at that strength, -8-EPS at the others, and -images."""
PERTURBATIONS = {"PGD": "covariance-pgd", "FGSM": "covariance-fgsm", "DeepFool": "covariance-deepfool"}
LINE, SPAN = "softmax-line", 5


def tables(models: Sequence[ByLabel]) -> list[Grid]:
    """Table 1 for budgets up to 32/255 (the paper's MNIST) and 8/255 (CIFAR10), then the figures."""
    figures = [_decay_lengths(models), _by_decay(models), _by_strength(models), _variation(models)]
    return [_white_box(models, 32), _white_box(models, 8), *figures]


def _white_box(models: Sequence[ByLabel], levels: int) -> Grid:
    sources = _sources(models)
    rows = []
    for model in models:
        row = [model.name, percent_cell(model.clean, Round.NEAREST)]
        row += [_averaged(model, label, levels / 255) for label in WHITE_BOX.values()]
        made = _transfers(model)
        row += [_averaged(model, made.get(source, ""), levels / 255) for source in sources]
        rows.append([*row, _fool(model)])
    headings = ["Train. M.", "TEST", *WHITE_BOX, *(f"from {s}" for s in sources), "FOOL"]
    note = (
        f"Accuracies in %, those under attack averaged over budgets in [0, {levels}]/255, each of them "
        f"attacked by itself; FOOL: DeepFool's rho_adv "
        "away from the predicted class, in pixels from 0 to 1 where the paper standardises each image. "
    )
    note += (
        "From: PGD-transfer, the paper's bold columns; a dash where no run was attacked from that model. A method "
        "against itself needs a twin that was trained apart from it (--source)."
        if sources
        else "No other model was audited with it and none given (--source), so that the transfer columns are missing."
    )
    return Grid(f"Table 1, budgets up to {levels}/255", headings, rows, note=note, name=f"table-1-{levels}")


def _transfers(model: ByLabel) -> dict[str, str]:
    """The stages of the transfer attack, by what the model that it was made on is called."""
    made = [(e.source, e.name) for e in model.attacks_ran if e.label == TRANSFER and e.source]
    return {model.sources.get(source, source): stage for source, stage in made}


def _sources(models: Sequence[ByLabel]) -> list[str]:
    """What the attacked models were attacked from: those of the rows in their order, then others."""
    found = dict.fromkeys(name for model in models for name in _transfers(model))
    rows = [model.name for model in models if model.name in found]
    return list(dict.fromkeys([*rows, *found]))


def _averaged(model: ByLabel, label: str, limit: float) -> str:
    areas = model.areas(label, limit)
    return NONE if areas is None else percent_cell(float(areas.mean()))


def _fool(model: ByLabel) -> str:
    found = model.values_of(FOOL, "relative_distance")
    if not len(found):
        return NONE
    return counted(fixed(float(found.mean()), 3, Round.UP), len(model.images) - len(found))


def _by_decay(models: Sequence[ByLabel]) -> Grid:
    labels = [*(f"{LRC}-{zeta}" for zeta in ZETAS), f"{LRC}-images"]
    rows = [[model.name, *(_withstood(model, label) for label in labels)] for model in models]
    note = (
        "Accuracy in % under the worst of 100 long-range correlated perturbations eps * z, by the decay length of z in "
        f"pixels; eps = {AT:g} of images standardised to unit variance: {AT:g} times the standard deviation of the "
        "image's pixels. Cut to the box once, after the draw. The data's covariance is that of a training set: "
        "a dash unless the protocol was given one (lrc-images)."
    )
    headings = ["Model", *(f"zeta {z}" for z in ZETAS), "the data's covariance"]
    return Grid("Figure 3 (left)", headings, rows, note=note, name="figure-3")


def _by_strength(models: Sequence[ByLabel]) -> Grid:
    rows = [[model.name, *(_withstood(model, _at_strength(s)) for s in STRENGTHS)] for model in models]
    note = "Accuracy in % under the same attack at decay length 8, by its strength; each of them is drawn anew."
    return Grid("Figure 4", ["Model", *(f"eps {s:g}" for s in STRENGTHS)], rows, note=note, name="figure-4")


def _at_strength(strength: float) -> str:
    return f"{LRC}-8" if strength == AT else f"{LRC}-8-{strength:g}"


def _withstood(model: ByLabel, label: str) -> str:
    """The share of the images that no draw fooled."""
    return percent_cell(model.standing("l2", [math.inf], label)[0])


def _decay_lengths(models: Sequence[ByLabel]) -> Grid:
    most = max((model.manifest.model.input_shape[0] for model in models), default=1)
    sides = ("within", "across") if most > 1 else ("within",)
    rows = [[model.name, *(cell for side in sides for cell in _lengths(model, side))] for model in models]
    note = (
        "Displacement in pixels at which the covariance function falls to 1/e of its value at 0, the mean over the "
        "channels (or pairs of channels: across); a dash where one of them does not. The perturbations are the closest "
        "witnesses of each attack, where the paper takes all of one budget. Its long-range noise (figure 5) has decay "
        "lengths 1, 2, 4 and 8."
    )
    headings = ["Model", *(f"{what}, {side}" for side in sides for what in (*PERTURBATIONS, "images"))]
    return Grid("Figures 1, 2 and 5, decay lengths", headings, rows, note=note, name="figure-1")


def _lengths(model: ByLabel, side: str) -> list[str]:
    """Of each perturbation and of the images, within the channels or across them."""
    channels = range(model.manifest.model.input_shape[0])
    pairs = [(c, c) for c in channels] if side == "within" else list(combinations(channels, 2))
    ran = [label for label in PERTURBATIONS.values() if model.stage(label)]
    found = [_length(model, label, "", pairs) for label in PERTURBATIONS.values()]
    return [*found, _length(model, ran[0], "data_", pairs) if ran else NONE]


def _length(model: ByLabel, label: str, prefix: str, pairs: Sequence[tuple[int, int]]) -> str:
    if not pairs:
        return NONE
    lengths = [model.statistic(label, f"{prefix}decay_length_{c}_{d}") for c, d in pairs]
    mean = sum(lengths) / len(lengths)
    return NONE if math.isnan(mean) else fixed(mean, 2)


def _variation(models: Sequence[ByLabel]) -> Grid:
    found = [(model.name, model.statistic(LINE, "variation", SPAN)) for model in models]
    rows = [[name, NONE if math.isnan(variation) else fixed(variation, 2)] for name, variation in found]
    note = (
        f"Total variation of the softmax outputs from minus to plus {SPAN} times PGD's perturbation at 4/255, the "
        "mean over all images, whether it fools the model or not: 1 is one full change of the class."
    )
    return Grid("Figure 6", ["Model", "total variation"], rows, note=note, name="figure-6")
