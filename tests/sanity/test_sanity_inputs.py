"""Warnings about images and normalisations, with the normalisations that people use as honest ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from commands import here
from robusteval import Run
from robusteval.analysis.summary import summarise
from robusteval.sanity import sanity_warnings

IMAGES = pd.DataFrame({"label": [0, 1], "predicted": [0, 1], "correct": [True, True]})
HONEST: dict[str, tuple[list[float], list[float]]] = {
    "none": ([0, 0, 0], [1, 1, 1]),
    "imagenet": ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
    "cifar10": ([0.4914, 0.4822, 0.4465], [0.2471, 0.2435, 0.2616]),
    "halves": ([0.5] * 3, [0.5] * 3),
    "mnist": ([0.1307], [0.3081]),
}


def statistics(mean: list[float], std: list[float], centre: float = 0.45, spread: float = 0.25) -> pd.DataFrame:
    """Of images with pixels of that mean and standard deviation in every channel."""
    rows: list[tuple[str, float, float]] = [("brightest", 0, 1.0), ("output_range", 0, 1.0)]
    for c, (m, s) in enumerate(zip(mean, std, strict=True)):
        rows += [("mean", c, m), ("std", c, s)]
        rows += [("standardised_mean", c, (centre - m) / s), ("standardised_std", c, spread / s)]
    return pd.DataFrame(rows, columns=["quantity", "at", "value"])


def names(found: pd.DataFrame) -> list[str]:
    return [w.name for w in sanity_warnings(IMAGES, found, 2)]


@pytest.mark.parametrize("name", HONEST)
@pytest.mark.parametrize("centre", [0.2, 0.45, 0.6])
def test_what_people_use_raises_nothing(name: str, centre: float) -> None:
    assert names(statistics(*HONEST[name], centre=centre)) == []


@pytest.mark.parametrize(
    ("mean", "std"),
    [([125.3], [63.0]), ([123.7, 116.3, 103.5], [58.4, 57.1, 57.4]), ([0.0], [255.0]), ([-125.3], [1.0])],
)
def test_units_of_bytes_are_seen(mean: list[float], std: list[float]) -> None:
    assert "normalisation-units" in names(statistics(mean, std))


def test_images_that_were_scaled_twice() -> None:
    found = statistics(*HONEST["cifar10"], centre=0.45 / 255, spread=0.25 / 255)
    found.loc[found["quantity"] == "brightest", "value"] = 1 / 255
    assert names(found) == ["standardised-range", "dark-images"]


def test_outputs_that_see_nothing() -> None:
    found = statistics(*HONEST["none"])
    found.loc[found["quantity"] == "output_range", "value"] = 0.0
    assert names(found) == ["constant-outputs"]


PROTOCOL = '[budgets]\nlinf = [0.1]\n[[attacks]]\nmethod = "fgsm"\nnorm = "linf"\n'


def test_warnings_lead_and_strict_makes_them_errors(demo_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "small.toml").write_text(PROTOCOL)
    command = [
        *("audit", demo_folder / "digits-standard.safetensors", "--arch", "digits-cnn", "--data", "digits"),
        *("--limit", 30, "--protocol", tmp_path / "small.toml", "--batch-size", 30),
    ]
    done = here(*command, "--out", tmp_path / "a", "--mean", "125", "--std", "63")
    assert done.returncode == 0
    said = "The normalisation looks like one for pixels from 0 to 255"
    assert said in done.stderr
    assert 0 <= done.stdout.find(said) < done.stdout.find("Clean accuracy")
    run = Run.open(tmp_path / "a")
    assert {"normalisation-units", "standardised-range", "chance-accuracy"} <= {w.name for w in summarise(run).warnings}
    assert said in (run.path / "report.html").read_text()
    assert "Gradient masking was not checked" in (run.path / "report.html").read_text()
    strict = here(*command, "--out", tmp_path / "b", "--mean", "125", "--std", "63", "--strict")
    assert strict.returncode == 2
    assert "error: expected no sanity warning with --strict, got: " in " ".join(strict.stderr.split())
    assert not (tmp_path / "b" / "parts" / "fgsm-linf").exists(), "before the first attack"
    assert here(*command, "--out", tmp_path / "c", "--strict").returncode == 0


def test_the_columns_are_numbers() -> None:
    assert np.isfinite(statistics(*HONEST["mnist"])["value"]).all()
