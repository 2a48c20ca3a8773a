"""Moments (ICLR 2020 submission): tables 1 and 4, figure 6 and equation 3 as tables."""

from __future__ import annotations

from collections.abc import Sequence

from robusteval.analysis import show
from robusteval.analysis.by_label import ByLabel
from robusteval.analysis.intervals import mean_share, proportion
from robusteval.analysis.show import Round
from robusteval.reports.grid import Grid
from robusteval.reports.papers.cells import NONE, counted, percent_cell

ATTACKS = {"PGD": "pgd", "LBF": "lbfgs", "GSM": "fgsm", "AGA": "gaussian", "AUA": "uniform", "DF2": "deepfool"}
"""The paper's abbreviation in table 4 -> label in the protocol."""
FEWER = {"PGD": "pgd", "LBFGS": "lbfgs", "FGSM": "fgsm", "DF2": "deepfool"}
"""The same in table 1."""
SIGMAS = (0.125, 0.25, 0.325, 0.5, 1.0)
"""Standard deviations of the noise that the paper trains with."""
NOISE = {"Gaussian": "gaussian-noise", "uniform": "uniform-noise"}
VARIANTS = {"one sample": "noise_area_single", "each of m samples": "noise_area"}
"""The two ways of the paper to say that an image keeps its prediction -> the area that measures it."""


def tables(models: Sequence[ByLabel]) -> list[Grid]:
    return [
        _energies(models, "Table 1", FEWER),
        _energies(models, "Table 4", ATTACKS),
        _kept(models),
        _expected(models),
    ]


def _energies(models: Sequence[ByLabel], title: str, attacks: dict[str, str]) -> Grid:
    rows = []
    for model in models:
        energies = (_energy(model, label) for label in attacks.values())
        kept = model.measurement("gaussian-noise", "noise_area_single")
        rows.append(
            [model.name, *energies, percent_cell(kept, Round.NEAREST), percent_cell(model.clean, Round.NEAREST)]
        )
    note = (
        "Energy of the smallest perturbation that each attack found: the squared L2 distance over the number of pixel "
        "values, mean over the images, a misclassified one counting as 0. Pixels lie in [0, 1], the paper's too by its "
        "footnote, so that no energy is above 1: those of its table that are, up to 9.33, are of another scale. GNR: "
        "predictions kept under Gaussian noise, in %, averaged over its standard deviation, one sample each. ACC: "
        "clean accuracy in %. The paper's rows are trainings with noise of variance sigma, one model each; its figures "
        "2 and 3 plot GNR against ACC."
    )
    name = title.lower().replace(" ", "-")
    return Grid(title, ["Model", *attacks, "GNR", "ACC"], rows, note=note, name=name)


def _energy(model: ByLabel, label: str) -> str:
    reach = model.reaches.get((label, "l2"))
    if reach is None:
        return NONE
    return counted(f"{reach.mean_square:.2e}" if reach.mean.n else NONE, reach.failures)


def _kept(models: Sequence[ByLabel]) -> Grid:
    rows = []
    for model in models:
        for noise, label in NOISE.items():
            for variant, quantity in VARIANTS.items():
                areas = model.values_of(label, quantity)
                if len(areas):
                    area = mean_share(areas)
                    shown = [show.percent(area.value), show.percents(area.low, area.high), f"{area.n:,}"]
                    rows.append([model.name, noise, variant, *shown])
    note = (
        "Area under the curve of predictions kept against the standard deviation of the noise, 30 values in [0, 0.5]."
    )
    headings = ["Model", "noise", "kept by", "area", "95 % interval", "images"]
    return Grid("Figure 6", headings, rows, text=3, note=note, name="figure-6")


def _expected(models: Sequence[ByLabel]) -> Grid:
    label, rows = "analytic-moments", []
    for model in models:
        for sigma in SIGMAS:
            told = model.values_of(label, "agreement", sigma)
            same = proportion(told) if len(told) else None
            if model.stage(label):
                share = [show.percent(same.value), show.percents(same.low, same.high)] if same else [NONE, NONE]
                errors = [model.measurement(label, f"{which}_error", sigma) for which in ("output", "clean")]
                rows.append([model.name, f"{sigma:g}", *share, f"{len(told):,}", *map(show.significant, errors)])
    headings = ["Model", "sigma", "same class", "95 % interval", "of images", "error", "error of the clean output"]
    note = (
        "The analytic expected output against Monte Carlo: images of the same class, of those whose samples tell, and "
        "the mean relative L2 error, beside that of the image's own output. Not in the paper, which trains with it."
    )
    return Grid("Equation 3", headings, rows, note=note, name="equation-3")
