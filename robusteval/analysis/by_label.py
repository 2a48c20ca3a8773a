"""The numbers of a run by the labels that its protocol gives the methods, as the tables of a paper ask for them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.integrate import trapezoid

from robusteval.analysis.curves import curve
from robusteval.analysis.distances import Reach, reaches
from robusteval.analysis.results import Results
from robusteval.core.norms import BUDGET_TOLERANCE
from robusteval.results.records import AttackRecord, MethodRecord


@dataclass(frozen=True, eq=False)
class ByLabel(Results):
    """A row of a paper's table: one run, that is one model. NaN where a stage did not run."""

    name: str = ""
    """Of the row."""
    sources: Mapping[str, str] = field(default_factory=dict)
    """What the models that its transfer attacks were made on are called, by their names."""

    @property
    def values(self) -> int:
        """Pixel values of an image."""
        return int(np.prod(self.manifest.model.input_shape))

    @cached_property
    def reaches(self) -> dict[tuple[str, str], Reach]:
        """By stage and norm."""
        return {(r.stage, r.norm): r for r in reaches(self)}

    @property
    def clean(self) -> float:
        """Clean accuracy."""
        return float(self.images["correct"].mean())

    @property
    def error(self) -> float:
        """Clean error."""
        return float((~self.images["correct"]).mean())

    def stage(self, label: str) -> MethodRecord | None:
        """The record of a stage that ran."""
        return next((s for s in self.manifest.ran(MethodRecord) if s.name == label), None)

    def standing(self, norm: str, budgets: Sequence[float], label: str | None = None) -> list[float]:
        """Accuracy at each budget under one attack, or under all of the run; NaN if the attack did not run or was
        not tried at such a budget."""
        record = self.stage(label) if label else None
        if label and not isinstance(record, AttackRecord):
            return [math.nan] * len(budgets)
        shares: list[float] = curve(self.distances(norm, label), budgets)["share"].tolist()
        if not isinstance(record, AttackRecord) or record.norm != norm:
            return shares
        return [s if record.tried(norm, b) else math.nan for b, s in zip(budgets, shares, strict=True)]

    def broken(self, norm: str, budgets: Sequence[float], label: str | None = None) -> list[float]:
        """The error, 1 - `standing`, without the rounding of that difference."""
        n = len(self.images)
        return [s if math.isnan(s) else (n - round(s * n)) / n for s in self.standing(norm, budgets, label)]

    def areas(self, label: str, limit: float) -> NDArray[np.float64] | None:
        """For each image, in their order, the part of the budgets in [0, limit] at which an attack did not break it,
        by the trapezoid rule over those that it was tried at, each by itself. None if it was not tried as far."""
        record = self.stage(label)
        if not isinstance(record, AttackRecord) or not record.budgets or not record.tried(record.norm, limit):
            return None
        own = self.rows("witnesses", label).pivot_table(index="image_id", columns="budget", values="success")
        stood = 1.0 - own.reindex(self.images["image_id"]).sort_index(axis="columns").astype(float)
        at = np.array([0.0, *stood.columns])
        values = np.column_stack([self.correct.astype(float), stood.to_numpy()])
        kept = at <= limit * (1 + BUDGET_TOLERANCE)
        found: NDArray[np.float64] = trapezoid(values[:, kept], at[kept], axis=1) / at[kept][-1]
        return found

    def uncovered(self, label: str, budgets: Sequence[float]) -> list[float]:
        """Share of images without a radius of at least each budget; NaN if the certificate did not run."""
        if self.stage(label) is None:
            return [math.nan] * len(budgets)
        return [float((self.radii(label) < budget).mean()) for budget in budgets]

    def above_witnesses(self, label: str, norm: str) -> tuple[int, int]:
        """On how many images the radius of a certificate lies above the closest witness of all attacks, and of how many
        it might: those that are classified correctly and have a witness."""
        far = self.distances(norm)
        counts = self.correct & np.isfinite(far)
        above = counts & (self.radii(label).to_numpy() > far)
        return int(above.sum()), int(counts.sum())

    def statistic(self, label: str, quantity: str, at: float = 0.0) -> float:
        """A number over the whole set; NaN where there is none."""
        return float(_at(self._finite("statistics", label, quantity), at).mean())

    def statistics_of(self, label: str, quantity: str) -> pd.Series[float]:
        """The finite numbers of a quantity of the whole set, wherever it was measured."""
        return self._finite("statistics", label, quantity)["value"]

    def measurement(self, label: str, quantity: str, at: float = 0.0) -> float:
        """The mean over the images of what a metric measured; NaN where there is nothing."""
        return float(self.values_of(label, quantity, at).mean())

    def values_of(self, label: str, quantity: str, at: float = 0.0) -> pd.Series[float]:
        """The finite values of what a metric measured, over the images."""
        return _at(self._finite("measurements", label, quantity), at)

    def places(self, label: str, quantity: str) -> list[float]:
        """Where a quantity was measured over the images."""
        places: list[float] = self._rows("measurements", label, quantity)["at"].unique().tolist()
        return places

    def _finite(self, table: str, label: str, quantity: str) -> pd.DataFrame:
        rows = self._rows(table, label, quantity)
        finite: pd.DataFrame = rows[np.isfinite(rows["value"])]
        return finite

    def _rows(self, table: str, label: str, quantity: str) -> pd.DataFrame:
        """Raises KeyError for a quantity that the method of a stage that ran does not declare."""
        record = self.stage(label)
        if record is not None:
            record.quantity(quantity)
        rows = self.rows(table, label)
        return rows[rows["quantity"] == quantity]


def _at(rows: pd.DataFrame, at: float) -> pd.Series[float]:
    """The values at one place."""
    return rows["value"][np.isclose(rows["at"], at)]
