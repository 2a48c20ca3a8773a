"""The tables of a run, put together from its parts, a few thousand rows at a time. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

import pandas as pd

from robusteval.core.norms import Norm
from robusteval.results.below import as_csv, write_below
from robusteval.results.bracket import bracket, refuted_proofs
from robusteval.results.calibrate import Calibration, calibrate
from robusteval.results.files import read_frame, read_frames, write_frames
from robusteval.results.records import CLEAN, CertificateRecord, StageRecord
from robusteval.results.run import Run
from robusteval.results.shards import PlannedFile, planned_files, planned_shards
from robusteval.results.tables import (
    CALIBRATION_TABLE,
    CERTIFICATES_TABLE,
    IMAGES_TABLE,
    MEASUREMENTS_TABLE,
    STATISTICS_TABLE,
    WITNESSES_TABLE,
    Table,
)

T = TypeVar("T")
AT_ONCE = 10_000
"""Images whose rows are put together at a time."""
_ORDER = {
    "images": ["image_id"],
    "witnesses": ["image_id", "budget"],
    "certificates": ["image_id"],
    "measurements": ["image_id", "quantity", "at"],
    "statistics": ["quantity", "at"],
}
"""How the rows of one stage are ordered, whatever shards they came in: shards are in the order of the ids."""
_BOUNDING = (IMAGES_TABLE, WITNESSES_TABLE, CERTIFICATES_TABLE)
"""What the bounds follow from."""


def tables_in_pieces(run: Run) -> Iterator[tuple[str, Iterator[pd.DataFrame]]]:
    """Every table by name, from the parts alone, each in pieces of the same columns, at least one: stages in the order
    of the manifest, in each the images in that of their ids."""
    for table in (*_BOUNDING, MEASUREMENTS_TABLE, STATISTICS_TABLE):
        yield table.name, _rows(run, table)
    asked, bounds, factors = run.manifest.protocol.calibration, bounds_in_pieces(run), CALIBRATION_TABLE.frame()
    if asked is not None:
        scaled, factors = _calibrated(run, asked)
        bounds = _with(bounds, scaled)
    yield "bounds", bounds
    yield "calibration", iter([factors])


def bounds_in_pieces(run: Run) -> Iterator[pd.DataFrame]:
    """The bounds of what the run holds by now, without their calibration."""
    shards = planned_shards(run.manifest, run.manifest.stage(CLEAN))
    for some in _batched(shards, run):
        yield bracket(*(_rows_of(run, table, some) for table in _BOUNDING))


def refuted(run: Run) -> list[str]:
    """One line for each image with a witness inside a proven radius, by now."""
    return [line for piece in bounds_in_pieces(run) for line in refuted_proofs(piece)]


def write_tables(run: Run) -> None:
    """Write tables/*.parquet and tables/bounds.csv."""
    for name, pieces in tables_in_pieces(run):
        write_frames(run.path / "tables" / f"{name}.parquet", pieces)
    stored = read_frames(run.path / "tables" / "bounds.parquet")
    write_below(run.path, "tables/bounds.csv", lambda temporary: _write_csv(temporary, stored))


def bounds_csv(run: Run) -> Path:
    return run.path / "tables" / "bounds.csv"


def csv_pieces(pieces: Iterable[pd.DataFrame]) -> Iterator[bytes]:
    """A table as CSV, its header first."""
    for i, piece in enumerate(pieces):
        yield as_csv(piece, header=not i).encode("utf-8", "replace")


def _write_csv(path: Path, pieces: Iterable[pd.DataFrame]) -> None:
    with path.open("wb") as file:
        file.writelines(csv_pieces(pieces))


def _calibrated(run: Run, asked: Calibration) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The columns that calibration adds to the bounds, and its table."""
    records = run.manifest.ran(CertificateRecord)
    said = [(r.name, r.norm.value, r.guarantee.value, r.subject) for r in records]
    needed = ["image_id", "correct", *(f"upper_{norm}" for norm in Norm), *(f"lower_{r.name}" for r in records)]
    slim = pd.concat([piece[needed] for piece in bounds_in_pieces(run)], ignore_index=True)
    kinds = pd.DataFrame(said, columns=["method", "norm", "kind", "subject"])
    scaled, factors = calibrate(slim, kinds, asked, run.manifest.seed)
    return scaled.drop(columns=needed), factors


def _rows(run: Run, table: Table) -> Iterator[pd.DataFrame]:
    """The rows of a table: of the planned shards of the stages that are done, and of nothing else that lies there."""
    none = True
    for record in run.manifest.ran(StageRecord):
        files = [p for p in planned_files(run.manifest, record) if p.table is table]
        for some in [files] if table is STATISTICS_TABLE else _batched(files, run):
            if frames := _read(run, some):
                none = False
                yield _ordered(frames, table)
    if none:
        yield table.frame()


def _rows_of(run: Run, table: Table, shards: Sequence[str]) -> pd.DataFrame:
    """The rows of some shards, stage by stage."""
    stages = []
    for record in (r for r in run.manifest.ran(StageRecord) if not r.one_shard):
        files = [p for s in shards for p in planned_files(run.manifest, record, only=s) if p.table is table]
        if frames := _read(run, files):
            stages.append(_ordered(frames, table))
    return pd.concat(stages, ignore_index=True) if stages else table.frame()


def _read(run: Run, files: Iterable[PlannedFile]) -> list[pd.DataFrame]:
    places = ((planned.required, run.path / planned.path) for planned in files)
    return [read_frame(path) for required, path in places if required or path.is_file()]


def _ordered(frames: Sequence[pd.DataFrame], table: Table) -> pd.DataFrame:
    rows = pd.concat(frames, ignore_index=True)
    return rows.sort_values(_ORDER[table.name], kind="stable", ignore_index=True)


def _batched(shards: Sequence[T], run: Run) -> Iterator[Sequence[T]]:
    """So many at a time that their images are AT_ONCE at most, or one."""
    count = max(1, AT_ONCE // run.manifest.shard_size)
    return (shards[i : i + count] for i in range(0, len(shards), count))


def _with(pieces: Iterable[pd.DataFrame], columns: pd.DataFrame) -> Iterator[pd.DataFrame]:
    at = 0
    for piece in pieces:
        own = columns.iloc[at : at + len(piece)]
        yield piece.assign(**{str(name): own[name].to_numpy() for name in own})
        at += len(piece)
