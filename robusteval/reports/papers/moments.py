"""Moments (ICLR 2020 submission): tables 1 and 4."""

from __future__ import annotations

from collections.abc import Sequence

from robusteval.reports.papers.cells import NONE, Model, counted, percent
from robusteval.reports.sections import Grid
from robusteval.reports.show import Round

ATTACKS = {"PGD": "pgd", "LBF": "lbfgs", "GSM": "fgsm", "AGA": "gaussian", "AUA": "uniform", "DF2": "deepfool"}
"""The paper's abbreviation in table 4 -> label in the protocol."""
FEWER = {"PGD": "pgd", "LBFGS": "lbfgs", "FGSM": "fgsm", "DF2": "deepfool"}
"""The same in table 1."""


def tables(models: Sequence[Model]) -> list[Grid]:
    return [_energies(models, "Table 1", FEWER), _energies(models, "Table 4", ATTACKS)]


def _energies(models: Sequence[Model], title: str, attacks: dict[str, str]) -> Grid:
    rows = []
    for model in models:
        energies = (_energy(model, label) for label in attacks.values())
        kept = model.measurement("gaussian-noise", "noise_area_single")
        rows.append([model.name, *energies, percent(kept, Round.NEAREST), percent(model.clean, Round.NEAREST)])
    note = (
        "Energy of the smallest perturbation that each attack found: the squared L2 distance over the number of pixel "
        "values, mean over the images, a misclassified one counting as 0. GNR: predictions kept under Gaussian noise, "
        "in %, averaged over its standard deviation, one sample each. ACC: clean accuracy in %. The paper's rows are "
        "models trained with noise of variance sigma, one run each."
    )
    name = title.lower().replace(" ", "-")
    return Grid(title, ["Model", *attacks, "GNR", "ACC"], rows, note=note, name=name)


def _energy(model: Model, label: str) -> str:
    reach = model.reaches.get((label, "l2"))
    if reach is None:
        return NONE
    return counted(f"{reach.mean_square:.2e}" if reach.mean.n else NONE, reach.failures)
