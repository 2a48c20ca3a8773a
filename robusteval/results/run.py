"""The run directory: written atomically, resumed, read back. Imports no torch.

manifest.json                             what was asked and with what; the stages and how they ended
parts/<stage>/<shard>.parquet             the rows of one shard of images; there when it is whole
parts/<stage>/<shard>.<table>.parquet     further rows of the same shard, written before it
parts/<stage>/set.parquet                 statistics of the whole set, for certificates that prepare
witnesses/<stage>/<shard>.safetensors     the images behind the rows; stage "clean" holds the images
needed/<stage>/<shard>.safetensors        those that later stages need, where not all are kept, and what was gathered of
                                          the whole set, until the run is whole
tables/<table>.parquet                    the parts put together, and bounds.csv
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from robusteval.core.errors import UserError
from robusteval.results.atomic import atomically
from robusteval.results.files import Arrays, read_arrays, read_frame
from robusteval.results.manifest import NAME, Manifest, read_manifest
from robusteval.results.own_files import check_own_files
from robusteval.results.places import brought
from robusteval.results.records import StageRecord
from robusteval.results.shards import planned_files
from robusteval.results.tables import TABLES

if TYPE_CHECKING:
    from matplotlib.axes import Axes

NEEDED = "needed"


def witness_key(image_id: str, budget: float) -> str:
    """The name of a witness in its file: the budget (NaN for minimum-distance attacks) and the image."""
    return f"{'minimum' if np.isnan(budget) else repr(float(budget))}/{image_id}"


def stored_witness(
    arrays: Arrays, image_id: str, budget: float, budgets: Iterable[float]
) -> np.ndarray[Any, Any] | None:
    """The image behind a witness. It is kept once, under the smallest of the stage's `budgets` that it serves."""
    return next((arrays[key] for key in witness_keys(image_id, budget, budgets) if key in arrays), None)


def witness_keys(image_id: str, budget: float, budgets: Iterable[float]) -> list[str]:
    """The names that it may have in its file, the likeliest first."""
    served = [b for b in sorted(budgets, reverse=True) if b <= budget]
    return [witness_key(image_id, b) for b in served or [budget]]


@dataclass(frozen=True)
class Run:
    """A run directory and its manifest."""

    path: Path
    manifest: Manifest

    def __repr__(self) -> str:
        m = self.manifest
        what = f"{m.model.name} on {m.data.count:,} images of {m.data.source}, {m.protocol.name}, {m.status}"
        return f"Run('{self.path}', {what})"

    def _repr_html_(self) -> str | None:
        """The headline, in a notebook, of a complete run: by way of the front of the package, which stands above."""
        from robusteval import headline_html

        return headline_html(self) if self.manifest.complete else None

    def plot(self, norm: str | None = None, ax: Axes | None = None) -> Axes:
        """Accuracy against distance, between what attacks found and what is proven; see robusteval.plot_run."""
        from robusteval import plot_run

        return plot_run(self, norm, ax)

    @classmethod
    def open(cls, path: str | Path) -> Run:
        """The run in a directory, or at a URL, of which it is brought into the user's cache directory. Raises UserError
        where there is none, or one with a manifest of another format."""
        folder = brought(path)
        run = cls(folder, read_manifest(folder / NAME))
        check_own_files(run.path)
        return run

    def table(self, name: str) -> pd.DataFrame:
        """One of the tables of tables.py, as the audit wrote it; the caller's own copy."""
        path = self.table_file(name)
        status = path.stat()
        return _kept(path, status.st_ino, status.st_mtime_ns, status.st_size).copy()

    def table_file(self, name: str) -> Path:
        """The file of a table. Raises UserError where it is none of tables.py, or the run is not finished."""
        path = self.path / "tables" / f"{name}.parquet"
        if name not in TABLES:
            raise UserError(f"expected a table in {', '.join(TABLES)}, got '{name}'")
        if not path.exists():
            raise UserError(f"expected a finished run, got no {path}; the same audit command continues it")
        return path

    def bounds(self) -> pd.DataFrame:
        """The per-image bound table: one row an image."""
        return self.table("bounds")

    def arrays(self, stage: str) -> Arrays:
        """The images kept by a stage, (C, H, W): by image id for "clean", else by witness_key."""
        found: Arrays = {}
        for path in self.array_files(stage):
            found |= read_arrays(path)
        return found

    def array_files(self, stage: str) -> Iterator[Path]:
        """The files in which a stage keeps images, shard by shard, for those who need not have all of them at once."""
        for planned in planned_files(self.manifest, self.manifest.stage(stage)):
            path = self.path / planned.path
            if planned.table is None and path.is_file():
                yield path

    def write_manifest(self) -> None:
        text = self.manifest.as_text()
        atomically(self.path / NAME, lambda temporary: temporary.write_text(text, encoding="utf-8", newline="\n"))

    def updated(self, **changes: object) -> Run:
        """The run with other fields in its manifest, written."""
        run = replace(self, manifest=self.manifest.model_copy(update=changes))
        run.write_manifest()
        return run

    def with_stage(self, record: StageRecord) -> Run:
        """The run with another record for one of its stages, written."""
        run = replace(self, manifest=self.manifest.with_stage(record))
        run.write_manifest()
        return run

    def part(self, stage: str, shard: str, table: str | None = None) -> Path:
        name = f"{shard}.{table}.parquet" if table else f"{shard}.parquet"
        return self.path / "parts" / stage / name

    def array_file(self, stage: str, shard: str) -> Path:
        return self.path / "witnesses" / stage / f"{shard}.safetensors"

    def needed_file(self, stage: str, shard: str) -> Path:
        """Where all images of a shard lie for later stages, where not all are kept, until the audit is finished."""
        return self.path / NEEDED / stage / f"{shard}.safetensors"

    def gathered_part(self, stage: str, shard: str) -> Path:
        """What it took to gather of a shard, beside what was gathered, its `needed_file`."""
        return self.needed_file(stage, shard).with_suffix(".parquet")

    def evidence(self) -> Iterator[Path]:
        """Every file that the tables rest on: those of the planned shards, not what else lies there."""
        for record in self.manifest.stages:
            for planned in planned_files(self.manifest, record):
                if (self.path / planned.path).is_file():
                    yield self.path / planned.path


@lru_cache(maxsize=len(TABLES))
def _kept(path: Path, *version: int) -> pd.DataFrame:
    """A table for all who ask for it, one after the other: those of one run, as long as their files are the same."""
    return read_frame(path)
