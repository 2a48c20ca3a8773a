"""Results: one run as every reader takes it, its tables, titles and distances read once."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from robusteval.core.norms import Norm
from robusteval.results.bracket import usable_radii
from robusteval.results.manifest import Manifest
from robusteval.results.records import AttackRecord, CertificateRecord, MetricRecord
from robusteval.results.run import Arrays, Run

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@dataclass(frozen=True, eq=False)
class Results:
    """The tables of a run, not to be changed, and what every reader asks of them."""

    run: Run

    @classmethod
    def of(cls, run: Run | Results) -> Results:
        """The results of a run, or these themselves."""
        return run if isinstance(run, Results) else cls(run)

    def __repr__(self) -> str:
        return repr(self.run).replace("Run(", "Results(", 1)

    def _repr_html_(self) -> str | None:
        """The headline, in a notebook."""
        return self.run._repr_html_()

    def plot(self, norm: str | None = None, ax: Axes | None = None) -> Axes:
        """As of the run."""
        return self.run.plot(norm, ax)

    @property
    def manifest(self) -> Manifest:
        return self.run.manifest

    @property
    def path(self) -> Path:
        return self.run.path

    @cached_property
    def images(self) -> pd.DataFrame:
        return self.run.table("images")

    @cached_property
    def witnesses(self) -> pd.DataFrame:
        return self.run.table("witnesses")

    @cached_property
    def certificates(self) -> pd.DataFrame:
        return self.run.table("certificates")

    @cached_property
    def measurements(self) -> pd.DataFrame:
        return self.run.table("measurements")

    @cached_property
    def statistics(self) -> pd.DataFrame:
        return self.run.table("statistics")

    @cached_property
    def calibration(self) -> pd.DataFrame:
        return self.run.table("calibration")

    @cached_property
    def bounds(self) -> pd.DataFrame:
        return self.run.table("bounds")

    @cached_property
    def attacks_ran(self) -> tuple[AttackRecord, ...]:
        return self.manifest.ran(AttackRecord)

    @cached_property
    def certificates_ran(self) -> tuple[CertificateRecord, ...]:
        return self.manifest.ran(CertificateRecord)

    @cached_property
    def metrics_ran(self) -> tuple[MetricRecord, ...]:
        return self.manifest.ran(MetricRecord)

    @cached_property
    def attacked(self) -> frozenset[Norm]:
        """The norms that the attacks of the run searched in."""
        return frozenset(record.norm for record in self.attacks_ran)

    @cached_property
    def correct(self) -> NDArray[np.bool_]:
        """Which images are classified correctly, in their order."""
        return self.images["correct"].to_numpy(bool)

    @cached_property
    def titles(self) -> dict[str, str]:
        """The title of each stage by its name; where two would read alike, the name follows."""
        found = {record.name: record.title for record in self.manifest.stages}
        often = Counter(found.values())
        return {name: f"{title} [{name}]" if often[title] > 1 else title for name, title in found.items()}

    @cached_property
    def classes(self) -> list[str]:
        """A name for each class; its number where the data set gives none."""
        given = self.manifest.data.class_names
        return [given[i] if i < len(given) else str(i) for i in range(self.manifest.model.num_classes)]

    @cached_property
    def norms(self) -> list[Norm]:
        """All norms, those in which the protocol has budgets first, in its order."""
        return list(dict.fromkeys([*self.manifest.protocol.budgets, *self.manifest.protocol.own_budgets, *Norm]))

    def arrays(self, stage: str) -> Arrays:
        """The arrays kept by a stage."""
        return self.run.arrays(stage)

    def distances(self, norm: str, stage: str | None = None) -> NDArray[np.float64]:
        """The distance of the closest witness of one attack, or of all, image by image in the order of the images: 0
        for a misclassified image, infinite where none was found."""
        if stage is None:
            return np.asarray(self.bounds[f"upper_{norm}"], dtype=np.float64)
        if stage not in self._closest:
            return np.full(len(self.images), np.inf)
        return np.asarray(self._closest[stage][norm], dtype=np.float64)

    def rows(self, table: str, stage: str) -> pd.DataFrame:
        """The rows of one stage in a table."""
        found: pd.DataFrame = getattr(self, table)
        return found[found["method"] == stage]

    def radii(self, stage: str) -> pd.Series[float]:
        """The radius that a certificate gives each image, by image id in the order of the images: 0 where it abstained
        or speaks for a class that is not the label."""
        rows = self.rows("certificates", stage)
        by_image = usable_radii(rows, self.images).set_axis(pd.Index(rows["image_id"]))
        return by_image.reindex(self.images["image_id"]).fillna(0.0)

    @cached_property
    def _closest(self) -> dict[str, pd.DataFrame]:
        found = self.witnesses[self.witnesses["success"]].groupby(["method", "image_id"])[list(Norm)].min()
        ids = self.images["image_id"]
        return {
            str(stage): rows.droplevel("method").reindex(ids).fillna(np.inf) for stage, rows in found.groupby("method")
        }
