"""One stage of a metric: its rows in the tables, and means of them."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from robusteval.analysis.results import Results
from robusteval.analysis.show import budget
from robusteval.core.norms import Norm
from robusteval.results.files import Arrays
from robusteval.results.records import MetricRecord


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
    def measured(self) -> pd.DataFrame:
        """Columns quantity, at, images: where something finite was measured, and of how many images."""
        return self.results.measured(self.label)

    @cached_property
    def statistics(self) -> pd.DataFrame:
        """Finite rows: quantity, at, value."""
        return finite_rows(self.results.rows("statistics", self.label))

    @cached_property
    def arrays(self) -> Arrays:
        return self.results.arrays(self.label)

    def rows(self, *quantities: str, columns: Sequence[str] = ("image_id", "quantity", "at", "value")) -> pd.DataFrame:
        """The finite measurements of some quantities. A name with its part in braces, as the metric declares it, stands
        for all that it covers. Raises KeyError for a quantity that the metric does not declare."""
        names = self._covered(self.measured["quantity"], quantities)
        return finite_rows(self.results.rows("measurements", self.label, columns, names))

    def set_rows(self, *quantities: str) -> pd.DataFrame:
        """The same of `statistics`."""
        names = self._covered(self.statistics["quantity"], quantities)
        found: pd.DataFrame = self.statistics[self.statistics["quantity"].isin(names)]
        return found

    def values(self, quantity: str) -> pd.Series[float]:
        """What was measured of a quantity, over the images."""
        found: pd.Series[float] = self.rows(quantity, columns=["value"])["value"]
        return found

    def titles(self, quantities: Iterable[str]) -> dict[str, str]:
        """Quantities with their titles. Raises KeyError for one that the metric does not declare."""
        return {quantity: self.entry.quantity(quantity).called(quantity) for quantity in quantities}

    def means(self, quantities: Collection[str]) -> pd.DataFrame:
        """Columns quantity, at, mean, standard_error, images: over the images, for each of the quantities, which the
        metric declares, and each `at`."""
        return self.means_of(self._covered(self.measured["quantity"], quantities))

    def means_of(self, names: Collection[str]) -> pd.DataFrame:
        """The same of quantities by the names that they have in the table."""
        found = [_means(rows).assign(quantity=name) for name, rows in self.each(names)]
        columns = ["quantity", "at", "mean", "standard_error", "images"]
        return pd.concat(found, ignore_index=True)[columns] if found else pd.DataFrame(columns=columns)

    def each(self, names: Collection[str]) -> Iterator[tuple[str, pd.DataFrame]]:
        """Of quantities by the names in the table, one after the other in their order, the finite rows: at, value."""
        for name in sorted({*names}):
            yield name, finite_rows(self.results.rows("measurements", self.label, ["at", "value"], [name]))

    def _covered(self, present: pd.Series[str], quantities: Collection[str]) -> list[str]:
        """Of the names in a table those of some quantities."""
        declared = [self.entry.quantity(name) for name in quantities]
        whole = [q for q, name in zip(declared, quantities, strict=True) if q.name == name]
        return [n for n in present.unique() if n in quantities or any(q.covers(n) for q in whole)]


def measured_stages(results: Results, method: str) -> list[MeasuredStage]:
    """The stages of a metric that ran, in the order of the protocol."""
    return [
        MeasuredStage(results, s.name, results.titles[s.name], s) for s in results.metrics_ran if s.method == method
    ]


def finite_rows(rows: pd.DataFrame) -> pd.DataFrame:
    """Those with a value that is a number."""
    found: pd.DataFrame = rows[np.isfinite(rows["value"])]
    return found


def _means(rows: pd.DataFrame) -> pd.DataFrame:
    found = rows.groupby("at", sort=True)["value"].agg(["mean", "std", "count"]).reset_index()
    error = (found["std"] / np.sqrt(found["count"])).fillna(0.0)
    return found.assign(standard_error=error, images=found["count"]).drop(columns=["std", "count"])
