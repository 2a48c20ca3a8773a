"""The run directory: written atomically, resumed, read back. Imports no torch.

manifest.json                             what was asked and with what; the stages and how they ended
parts/<stage>/<shard>.parquet             the rows of one shard of images; there when it is whole
parts/<stage>/<shard>.<table>.parquet     further rows of the same shard, written before it
parts/<stage>/set.parquet                 statistics of the whole set, for certificates that prepare
witnesses/<stage>/<shard>.safetensors     the images behind the rows; stage "clean" holds the images
needed/<stage>/<shard>.safetensors        those that later stages need, where not all are kept, until the run is whole
tables/<table>.parquet                    the parts put together, and bounds.csv
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from safetensors import safe_open
from safetensors.numpy import save

from robusteval.core.errors import UserError, first_line
from robusteval.results.atomic import Landing, atomically
from robusteval.results.atomic import writing as writing
from robusteval.results.manifest import NAME, Manifest, read_manifest
from robusteval.results.own_files import check_own_files
from robusteval.results.records import Cost, StageRecord
from robusteval.results.shards import planned_files
from robusteval.results.tables import TABLES

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Arrays = dict[str, np.ndarray[Any, Any]]
NEEDED = "needed"


def witness_key(image_id: str, budget: float) -> str:
    """The name of a witness in its file: the budget (NaN for minimum-distance attacks) and the image."""
    return f"{'minimum' if np.isnan(budget) else repr(float(budget))}/{image_id}"


def stored_witness(
    arrays: Arrays, image_id: str, budget: float, budgets: Iterable[float]
) -> np.ndarray[Any, Any] | None:
    """The image behind a witness. It is kept once, under the smallest of the stage's `budgets` that it serves."""
    keys = [witness_key(image_id, b) for b in sorted(budgets, reverse=True) if b <= budget] or [
        witness_key(image_id, budget)
    ]
    return next((arrays[key] for key in keys if key in arrays), None)


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
        """The run in a directory. Raises UserError where there is none, or one with a manifest of another format."""
        run = cls(Path(path), read_manifest(Path(path) / NAME))
        check_own_files(run.path)
        return run

    def table(self, name: str) -> pd.DataFrame:
        """One of the tables of tables.py, as the audit wrote it; the caller's own copy."""
        path = self.path / "tables" / f"{name}.parquet"
        if name not in TABLES:
            raise UserError(f"expected a table in {', '.join(TABLES)}, got '{name}'")
        if not path.exists():
            raise UserError(f"expected a finished run, got no {path}; the same audit command continues it")
        status = path.stat()
        return _kept(path, status.st_ino, status.st_mtime_ns, status.st_size).copy()

    def bounds(self) -> pd.DataFrame:
        """The per-image bound table: one row an image."""
        return self.table("bounds")

    def arrays(self, stage: str) -> Arrays:
        """The images kept by a stage, (C, H, W): by image id for "clean", else by witness_key."""
        found: Arrays = {}
        for planned in planned_files(self.manifest, self.manifest.stage(stage)):
            path = self.path / planned.path
            if planned.table is None and path.is_file():
                found |= read_arrays(path)
        return found

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

    def evidence(self) -> Iterator[Path]:
        """Every file that the tables rest on: those of the planned shards, not what else lies there."""
        for record in self.manifest.stages:
            for planned in planned_files(self.manifest, record):
                if (self.path / planned.path).is_file():
                    yield self.path / planned.path


def write_frame(
    path: Path,
    frame: pd.DataFrame,
    cost: Cost | None = None,
    beside: Mapping[str, str] | None = None,
    landing: Landing | None = None,
) -> None:
    """A data frame as parquet, with what its computation cost in the file's metadata, and the checksums, by path in the
    run, of the other files of its shard, so that none of them goes missing unnoticed."""
    table = pa.Table.from_pandas(frame, preserve_index=False)
    own = {b"robusteval": (cost or Cost()).model_dump_json().encode()}
    if beside is not None:
        own[b"beside"] = json.dumps(dict(beside)).encode()
    table = table.replace_schema_metadata({**(table.schema.metadata or {}), **own})
    atomically(path, lambda temporary: pq.write_table(table, temporary, write_page_checksum=True), landing)


def write_frames(path: Path, frames: Iterator[pd.DataFrame]) -> None:
    """A table as parquet, of data frames of the same columns and types, at least one, which never are in memory
    together."""

    def write(temporary: Path) -> None:
        first = pa.Table.from_pandas(next(frames), preserve_index=False)
        with pq.ParquetWriter(temporary, first.schema, write_page_checksum=True) as writer:
            writer.write_table(first)
            for frame in frames:
                writer.write_table(pa.Table.from_pandas(frame, schema=first.schema, preserve_index=False))

    atomically(path, write)


def read_frames(path: Path) -> Iterator[pd.DataFrame]:
    """The rows of a table in their order, in the pieces that it was written in. Raises UserError."""
    with _reading(path, "a readable table"):
        file = pq.ParquetFile(path, page_checksum_verification=True)
        for group in range(file.num_row_groups):
            yield _as_frame(file.read_row_group(group))


def read_frame(path: Path) -> pd.DataFrame:
    """A part or a table: its columns as every reader of parquet sees them. Raises UserError."""
    with _reading(path, "a readable table"):
        return _as_frame(pq.read_table(path, page_checksum_verification=True))


def _as_frame(table: pa.Table) -> pd.DataFrame:
    frame: pd.DataFrame = table.to_pandas()
    # pandas hides a column that is said to be an index; others do not.
    if list(frame.columns) != table.column_names or not frame.index.equals(pd.RangeIndex(len(frame))):
        raise ValueError(f"an index among the columns {', '.join(table.column_names)}")
    return frame


@contextmanager
def _reading(path: Path, wanted: str) -> Iterator[None]:
    """Raises UserError: pyarrow, pandas and safetensors raise all kinds for what is damaged or made to look so."""
    try:
        yield
    except MemoryError:
        raise
    except Exception as error:
        raise UserError(f"expected {wanted} in {path}, got: {first_line(error)}") from error


@lru_cache(maxsize=len(TABLES))
def _kept(path: Path, *version: int) -> pd.DataFrame:
    """A table for all who ask for it, one after the other: those of one run, as long as their files are the same."""
    return read_frame(path)


def read_cost(path: Path) -> Cost:
    """What a part cost; nothing where nothing is noted. Raises UserError."""
    with _reading(path, "a readable cost"):
        return Cost.model_validate_json((pq.read_schema(path).metadata or {}).get(b"robusteval", b"{}"))


def read_beside(path: Path) -> dict[str, str] | None:
    """The checksums, by path, of the other files of a part's shard; None where none are noted. Raises UserError."""
    with _reading(path, "readable checksums"):
        noted = (pq.read_schema(path).metadata or {}).get(b"beside")
        return None if noted is None else {str(name): str(sha) for name, sha in json.loads(noted).items()}


def write_arrays(path: Path, arrays: Arrays, landing: Landing | None = None) -> None:
    contiguous = {key: np.ascontiguousarray(array) for key, array in arrays.items()}
    # By Python, whose errors say why.
    atomically(path, lambda temporary: temporary.write_bytes(save(contiguous)), landing)


def read_arrays(path: Path, names: Collection[str] | None = None) -> Arrays:
    """The arrays in a file by their names, numbers all; of some names, those that are there. Raises UserError."""
    with _reading(path, "readable images"), safe_open(path, framework="numpy") as file:
        there = file.keys()
        return {key: file.get_tensor(key) for key in there if names is None or key in names}


def checksum(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
