"""Results: one run as every reader takes it, its tables, titles and distances read once."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from robusteval.core.errors import UserError
from robusteval.core.norms import Norm
from robusteval.results.files import Arrays
from robusteval.results.manifest import Manifest
from robusteval.results.records import AttackRecord, CertificateRecord, MetricRecord
from robusteval.results.rows import read_pieces, read_rows
from robusteval.results.run import Run

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
        return read_rows(self.run, "images")

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

    @cached_property
    def by_id(self) -> NDArray[np.int64]:
        """The places of the images in the order of their ids."""
        return np.asarray(pc.array_sort_indices(self._ids), dtype=np.int64)

    def columns(self, table: str, names: Sequence[str]) -> pd.DataFrame:
        """Some columns of a table, read anew: of the tables of a large run no more is in memory than is asked for."""
        return read_rows(self.run, table, names)

    def rows(
        self,
        table: str,
        stage: str,
        columns: Sequence[str] | None = None,
        quantities: Collection[str] | None = None,
    ) -> pd.DataFrame:
        """The rows of one stage in a table, of some quantities where these are given, with all columns or those asked
        for."""
        return read_rows(self.run, table, columns, stage, quantities)

    def pieces(
        self,
        table: str,
        columns: Sequence[str] | None = None,
        stage: str | None = None,
        quantities: Collection[str] | None = None,
    ) -> Iterator[pd.DataFrame]:
        """The same rows, of which some at a time are in memory."""
        return read_pieces(self.run, table, columns, stage, quantities)

    def distances(self, norm: str, stage: str | None = None) -> NDArray[np.float64]:
        """The distance of the closest witness of one attack, or of all, image by image in the order of the images: 0
        for a misclassified image, infinite where none was found."""
        if stage is None:
            return self.columns("bounds", [f"upper_{norm}"])[f"upper_{norm}"].to_numpy(np.float64)
        found = np.full(len(self.images), np.inf)
        for rows in self.pieces("witnesses", ["image_id", "success", norm], stage):
            rows = rows[rows["success"]]
            np.fmin.at(found, self.places_of(rows["image_id"]), rows[norm].to_numpy(np.float64))
        return found

    def radii(self, stage: str) -> pd.Series[float]:
        """The radius that a certificate gives each image, by image id in the order of the images: 0 where it abstained
        or speaks for a class that is not the label."""
        found = np.zeros(len(self.images))
        for at, radii in self._usable(stage):
            found[at] = radii
        return pd.Series(found, pd.Index(self.images["image_id"]), name="radius")

    def usable_radii(self, stage: str) -> NDArray[np.float64]:
        """The radii of a certificate that are of the label of their image, in the order of the rows."""
        return np.concatenate([np.zeros(0), *(radii for _, radii in self._usable(stage))])

    def _usable(self, stage: str) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float64]]]:
        """The places of images and their radii, of the rows that count."""
        labels = self.images["label"].to_numpy()
        for rows in self.pieces("certificates", ["image_id", "radius", "predicted", "abstained"], stage):
            at = self.places_of(rows["image_id"])
            counts = (rows["predicted"].to_numpy() == labels[at]) & ~rows["abstained"].to_numpy(bool)
            yield at[counts], rows["radius"].to_numpy(np.float64)[counts]

    def places_of(self, image_ids: pd.Series[str]) -> NDArray[np.int64]:
        """In which rows of the images those of some ids stand. Raises UserError for one that the run does not have."""
        found = self.places_if_known(image_ids)
        if (found < 0).any():
            raise UserError(f"expected the images of the run in {self.path} in all of its tables, got others")
        return found

    def places_if_known(self, image_ids: pd.Series[str]) -> NDArray[np.int64]:
        """The same, -1 for one that the run does not have."""
        asked = _texts(image_ids)
        if not len(asked):
            return np.zeros(0, dtype=np.int64)
        # Rows that were read one after the other are of images that stand side by side.
        ids, ends = self._ids, [bisect_left(range(len(self._ids)), asked[i].as_py(), key=self._id) for i in (0, -1)]
        for first, last in ((ends[0], ends[1] + 1), (0, len(ids))):
            among = ids[first:last]
            if among.equals(asked):
                return np.arange(first, last)
            found = pc.index_in(asked, value_set=among)
            if not found.null_count:
                return np.asarray(found, dtype=np.int64) + first
        return np.asarray(found.fill_null(-1), dtype=np.int64)

    def measured(self, stage: str) -> pd.DataFrame:
        """Columns quantity, at, images: where a stage measured something finite, and of how many images."""
        pieces = self.pieces("measurements", ["quantity", "at", "value"], stage)
        counts = [rows[np.isfinite(rows["value"])].groupby(["quantity", "at"])["value"].count() for rows in pieces]
        found: pd.DataFrame = pd.concat(counts).groupby(level=["quantity", "at"]).sum().rename("images").reset_index()
        return found

    @cached_property
    def _ids(self) -> pa.Array:
        return _texts(self.images["image_id"])

    def _id(self, place: int) -> str:
        found: str = self._ids[place].as_py()
        return found


def _texts(column: pd.Series[str]) -> pa.Array:
    found = pa.array(column, type=pa.large_string())
    return found.combine_chunks() if isinstance(found, pa.ChunkedArray) else found
