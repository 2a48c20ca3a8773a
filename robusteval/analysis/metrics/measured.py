"""One stage of a metric: its rows in the tables, and means of them."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from robusteval.analysis.results import Results
from robusteval.analysis.show import budget
from robusteval.core.norms import Norm
from robusteval.results.records import MetricRecord
from robusteval.results.run import Arrays


@dataclass(frozen=True, eq=False)
class MeasuredStage:
    """A stage of a metric that ran: its label in the protocol, its title, its entry in the manifest."""

    results: Results
    label: str
    title: str
    entry: MetricRecord

    @property
    def settings(self) -> dict[str, Any]:
        return self.entry.settings

    @property
    def norm(self) -> Norm:
        """The norm that it was measured in."""
        if self.entry.norm is None:
            raise ValueError(f"expected a metric of one norm, got {self.label}")
        return self.entry.norm

    @property
    def perturbs(self) -> bool:
        """Whether it measured perturbed images too: witnesses of an attack, or the ends of its own ascent."""
        return any(self.settings.get(key) for key in ("witnesses", "ascent"))

    @property
    def attack(self) -> str:
        """The title of the attack whose witnesses it measured, or what its own ascent is."""
        if self.settings.get("witnesses"):
            return self.results.titles[self.settings["witnesses"]]
        ascent = self.settings["ascent"]
        norm, at = Norm(ascent["norm"]).symbol, budget(self.settings["budget"])
        return f"{ascent['steps']:,} steps of ascent of {ascent['loss']}, {norm} {at}"

    @cached_property
    def measurements(self) -> pd.DataFrame:
        """Finite rows: image_id, quantity, at, value."""
        return self._rows("measurements")

    @cached_property
    def statistics(self) -> pd.DataFrame:
        """Finite rows: quantity, at, value."""
        return self._rows("statistics")

    @cached_property
    def arrays(self) -> Arrays:
        return self.results.arrays(self.label)

    def rows(self, *quantities: str) -> pd.DataFrame:
        """Those of `measurements` of some quantities. A name with its part in braces, as the metric declares it, stands
        for all that it covers. Raises KeyError for a quantity that the metric does not declare."""
        return self._of(self.measurements, quantities)

    def set_rows(self, *quantities: str) -> pd.DataFrame:
        """The same of `statistics`."""
        return self._of(self.statistics, quantities)

    def values(self, quantity: str) -> pd.Series[float]:
        """What was measured of a quantity, over the images."""
        found: pd.Series[float] = self.rows(quantity)["value"]
        return found

    def titles(self, quantities: Iterable[str]) -> dict[str, str]:
        """Quantities with their titles. Raises KeyError for one that the metric does not declare."""
        return {quantity: self.entry.quantity(quantity).called(quantity) for quantity in quantities}

    def means(self, quantities: Collection[str]) -> pd.DataFrame:
        """The means over the images of quantities that the metric declares; see `means`."""
        return means(self.rows(*quantities))

    def _of(self, rows: pd.DataFrame, quantities: Collection[str]) -> pd.DataFrame:
        declared = [self.entry.quantity(name) for name in quantities]
        whole = [q for q, name in zip(declared, quantities, strict=True) if q.name == name]
        names = [n for n in rows["quantity"].unique() if n in quantities or any(q.covers(n) for q in whole)]
        found: pd.DataFrame = rows[rows["quantity"].isin(names)]
        return found

    def _rows(self, name: str) -> pd.DataFrame:
        rows = self.results.rows(name, self.label)
        found: pd.DataFrame = rows[np.isfinite(rows["value"])]
        return found


def measured_stages(results: Results, method: str) -> list[MeasuredStage]:
    """The stages of a metric that ran, in the order of the protocol."""
    return [
        MeasuredStage(results, s.name, results.titles[s.name], s) for s in results.metrics_ran if s.method == method
    ]


def means(rows: pd.DataFrame) -> pd.DataFrame:
    """Columns quantity, at, mean, standard_error, images: over the images, for each quantity and `at`."""
    found = rows.groupby(["quantity", "at"], sort=True)["value"].agg(["mean", "std", "count"]).reset_index()
    error = (found["std"] / np.sqrt(found["count"])).fillna(0.0)
    return found.assign(standard_error=error, images=found["count"]).drop(columns=["std", "count"])
