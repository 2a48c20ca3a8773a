"""What the papers' tables share: the numbers of one run by the labels of its stages, and numbers as their cells.

A stage that did not run leaves a dash. An accuracy under attack is rounded up, an error under attack down, a bound on
errors up: no cell claims too much.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from robusteval.analysis import show
from robusteval.analysis.curves import Distances, curve
from robusteval.analysis.distances import Reach, reaches
from robusteval.analysis.results import Results
from robusteval.analysis.show import Round
from robusteval.analysis.summary import covered
from robusteval.results.manifest import AttackRecord, MethodRecord

NONE = "-"


@dataclass(frozen=True, eq=False)
class Model:
    """A row of a paper's table: one run, its tables read once."""

    results: Results

    @property
    def name(self) -> str:
        return str(self.results.manifest.model.name)

    @property
    def values(self) -> int:
        """Pixel values of an image."""
        return int(np.prod(self.results.manifest.model.input_shape))

    @cached_property
    def images(self) -> pd.DataFrame:
        return self.results.images

    @cached_property
    def tables(self) -> dict[str, pd.DataFrame]:
        return {name: self.results.table(name) for name in ("certificates", "measurements", "statistics")}

    @cached_property
    def far(self) -> Distances:
        return Distances(self.results)

    @cached_property
    def reaches(self) -> dict[tuple[str, str], Reach]:
        """By stage and norm."""
        return {(r.stage, r.norm): r for r in reaches(self.results)}

    @property
    def clean(self) -> float:
        """Clean accuracy."""
        return float(self.images["correct"].mean())

    @property
    def error(self) -> float:
        """Clean error."""
        return float((~self.images["correct"]).mean())

    def stage(self, label: str) -> MethodRecord | None:
        """The manifest's entry of a stage that ran."""
        return next((s for s in self.results.manifest.ran(MethodRecord) if s.name == label), None)

    def distances(self, norm: str, label: str | None = None) -> NDArray[np.float64]:
        """Image by image, of one attack or of all."""
        return self.far.of(norm, label)

    def standing(self, norm: str, budgets: Sequence[float], label: str | None = None) -> list[float]:
        """Accuracy at each budget under one attack, or under all of the run; NaN if the attack did not run or was
        not tried at such a budget."""
        entry = self.stage(label) if label else None
        if label and entry is None:
            return [math.nan] * len(budgets)
        shares = curve(self.distances(norm, label), budgets)["share"]
        return [
            float(s) if entry is None or entry.norm != norm or _tried(entry, norm, b) else math.nan
            for b, s in zip(budgets, shares, strict=True)
        ]

    def broken(self, norm: str, budgets: Sequence[float], label: str | None = None) -> list[float]:
        """The error, 1 - `standing`, without the rounding of that difference."""
        n = len(self.images)
        return [s if math.isnan(s) else (n - round(s * n)) / n for s in self.standing(norm, budgets, label)]

    def radii(self, label: str) -> pd.Series[float] | None:
        """Of a certificate that ran, each image's radius; 0 where it speaks for another class than the label."""
        if self.stage(label) is None:
            return None
        table = self.tables["certificates"]
        return covered(table[table["method"] == label], self.images)

    def uncovered(self, label: str, budgets: Sequence[float]) -> list[float]:
        """Share of images without a radius of at least each budget; NaN if the certificate did not run."""
        found = self.radii(label)
        return [math.nan if found is None else float((found < b).mean()) for b in budgets]

    def statistic(self, label: str, quantity: str, at: float = 0.0) -> float:
        """A number over the whole set; NaN where there is none."""
        return float(self._finite("statistics", label, quantity, at).mean())

    def measurement(self, label: str, quantity: str, at: float = 0.0) -> float:
        """The mean over the images of what a metric measured; NaN where there is nothing."""
        return float(self.measurements(label, quantity, at).mean())

    def measurements(self, label: str, quantity: str, at: float = 0.0) -> pd.Series[float]:
        """The finite values of what a metric measured, over the images."""
        return self._finite("measurements", label, quantity, at)

    def _finite(self, name: str, label: str, quantity: str, at: float) -> pd.Series[float]:
        table = self.tables[name]
        rows = table[(table["method"] == label) & (table["quantity"] == quantity) & np.isclose(table["at"], at)]
        finite: pd.Series[float] = rows["value"][np.isfinite(rows["value"])]
        return finite


def _tried(entry: MethodRecord, norm: str, budget: float) -> bool:
    return isinstance(entry, AttackRecord) and entry.tried(norm, budget)


def percent(share: float, rounding: Round = Round.UP) -> str:
    """0.9312 -> "93.2", as the papers print percentages."""
    return NONE if math.isnan(share) else show.percent(share, rounding).removesuffix(" %")


def fraction(share: float) -> str:
    """0.96912 -> "0.970"."""
    return NONE if math.isnan(share) else show.fixed(share, 3, Round.UP)


def counted(text: str, failures: int) -> str:
    """A mean over the images with a witness, with the number of those without."""
    return f"{text} ({failures:,} not found)" if failures else text
