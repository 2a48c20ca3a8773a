"""The tables of a run: the parts are what their stages may leave, and the tables follow from the parts row by row."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator
from functools import cache
from io import BytesIO
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from robusteval.auditing.verification.finding import Finding, held_against, wrong
from robusteval.core.errors import UserError
from robusteval.results.exact import EXACT_COLUMNS
from robusteval.results.files import Arrays, read_arrays, read_frame, read_frames
from robusteval.results.manifest import Manifest
from robusteval.results.records import (
    CLEAN,
    AttackRecord,
    CertificateRecord,
    CleanRecord,
    MethodRecord,
    StageRecord,
)
from robusteval.results.run import Run
from robusteval.results.shards import PlannedFile, planned_files
from robusteval.results.tables import CERTIFICATES_TABLE, IMAGES_TABLE, Table
from robusteval.results.tabulate import bounds_csv, csv_pieces, tables_in_pieces

_KEYS = ("image_id", "method", "quantity", "at", "budget")
_EXACT = 1e-12


def check_parts(run: Run) -> Iterator[Finding]:
    """Whether each part of a stage that is done can be read, has its columns, and names its stage and its images, in
    the norm and with the guarantee of the manifest."""
    ids, values = _image_ids(run), 0
    for record in run.manifest.ran(StageRecord):
        for planned in planned_files(run.manifest, record):
            path = run.path / planned.path
            if not path.is_file():
                continue
            try:
                if planned.table is None:
                    arrays = read_arrays(path)
                    values += len(arrays)
                    faults = _array_faults(record, arrays, run.manifest)
                else:
                    rows = read_frame(path)
                    values += rows.size
                    faults = _part_faults(record, planned, rows, ids, run.manifest)
                yield from [wrong(f"{planned.path}{said}") for said in faults]
            except UserError as error:
                yield wrong(str(error))
    for repeated in (image_id for image_id, count in Counter(ids).items() if count > 1):
        yield wrong(f"parts/{CLEAN}: image_id {repeated} is there more than once")
    yield held_against("parts against the manifest: columns, stages, images, norms, guarantees, quantities", values)


def check_tables(run: Run) -> Iterator[Finding]:
    """Whether the tables are those that the parts give, bounds.csv among them; of a run of before columns came to the
    bounds, those without them."""
    values = 0
    for name, pieces in tables_in_pieces(run):
        path = run.path / "tables" / f"{name}.parquet"
        if not path.is_file():
            continue
        count, lines = _held_against_parts(name, path, pieces)
        values += count
        yield from map(wrong, lines)
    if bounds_csv(run).is_file():
        yield from map(wrong, _lines(run))
    yield held_against("tables against the parts", values)


def _held_against_parts(name: str, path: Path, pieces: Iterator[pd.DataFrame]) -> tuple[int, list[str]]:
    """How many values of a table were looked at, and what is wrong with it: of one that has more rows or fewer, that
    alone."""
    values, found, wanted, columns, lines = 0, 0, 0, 0, list[str]()
    try:
        for stored, again in _side_by_side(read_frames(path), pieces):
            if stored is not None:
                again = _of_its_time(again, stored.columns)
                faults = [f"tables/{name}.parquet{said}" for said in _column_faults(stored, again)]
                if faults:
                    return values + again.size, [*lines, *faults]
                if len(stored) == len(again):
                    lines += differences(f"table {name}", stored, again, _EXACT, wanted)
            values, columns = values + again.size, again.shape[1]
            found, wanted = found + (0 if stored is None else len(stored)), wanted + len(again)
    except UserError as error:
        return values, [str(error)]
    if found != wanted:
        return values, [f"table {name}: expected {(wanted, columns)} rows and columns, got {(found, columns)}"]
    return values, lines


def _side_by_side(
    stored: Iterator[pd.DataFrame], again: Iterator[pd.DataFrame]
) -> Iterator[tuple[pd.DataFrame | None, pd.DataFrame]]:
    """The pieces of one table with as many rows of the other as there are; at last the rows that are left of that."""
    held = next(stored, None)
    for piece in again:
        while held is not None and len(held) < len(piece) and (more := next(stored, None)) is not None:
            held = pd.concat([held, more], ignore_index=True)
        yield (None if held is None else held.iloc[: len(piece)].reset_index(drop=True)), piece
        held = None if held is None else held.iloc[len(piece) :]
    none = piece.iloc[:0]
    for left in ([] if held is None else [held], stored):
        for rows in left:
            yield rows.reset_index(drop=True), none


def differences(
    where: str, stored: pd.DataFrame, again: pd.DataFrame, tolerance: float, begins: int = 0
) -> Iterator[str]:
    """One line for each row of `stored` that differs from `again`, naming the row, counted from `begins`, and the first
    column."""
    if list(stored.columns) != list(again.columns) or len(stored) != len(again):
        yield f"{where}: expected {again.shape} rows and columns, got {stored.shape}"
        return
    named: set[int] = set()
    for name in again.columns:
        old, new = stored[name].to_numpy(), again[name].to_numpy()
        for i in np.flatnonzero(~_equal(old, new, tolerance)):
            if i not in named:
                named.add(int(i))
                keys = ", ".join(f"{k} {again[k].iloc[i]}" for k in _KEYS if k in again)
                yield f"{where}, row {begins + i} ({keys}): {name} is {old[i]}, expected {new[i]}"


def _lines(run: Run) -> Iterator[str]:
    """One line for each of bounds.csv that differs from the bounds, by so much as how it ends."""
    bounds = next(pieces for name, pieces in tables_in_pieces(run) if name == "bounds")
    with bounds_csv(run).open("rb") as file:
        columns = file.readline().decode("utf-8", "replace").split(",")
        file.seek(0)
        of_its_time = (_of_its_time(piece, columns) for piece in bounds)
        wanted = (line for piece in csv_pieces(of_its_time) for line in BytesIO(piece))
        for i, (line, other) in enumerate(zip_longest(file, wanted), start=1):
            if line != other:
                of = (other or b"").split(b",")[0].decode("utf-8", "replace").strip()
                yield f"tables/bounds.csv, line {i} ({of}) does not follow from the tables"


def _of_its_time(again: pd.DataFrame, columns: Collection[Any]) -> pd.DataFrame:
    """A table as its run wrote it with these columns: without those that came later, where it has none of them."""
    later = [name for name in EXACT_COLUMNS.values() if name in again]
    return again if set(later) & {*columns} else again.drop(columns=later)


def _equal(old: NDArray[Any], new: NDArray[Any], tolerance: float) -> NDArray[np.bool_]:
    """Where two columns agree; numbers as far as the tolerance goes."""
    if old.dtype.kind != new.dtype.kind:
        return np.zeros(len(new), bool)
    if np.issubdtype(new.dtype, np.floating):
        close: NDArray[np.bool_] = np.isclose(old, new, rtol=tolerance, atol=tolerance * 1e-3, equal_nan=True)
        return close
    same: NDArray[np.bool_] = np.asarray(old == new, bool)
    return same


def _column_faults(rows: pd.DataFrame, wanted: pd.DataFrame) -> Iterator[str]:
    """What is wrong with the columns of a table, each line to follow the file's name: their names, their types, a text
    that is missing."""
    if list(rows.columns) != list(wanted.columns):
        yield f": expected the columns {', '.join(wanted.columns)}, got {', '.join(map(str, rows.columns))}"
        return
    for name in wanted.columns:
        if rows[name].dtype != wanted[name].dtype:
            yield f": expected {wanted[name].dtype} in {name}, got {rows[name].dtype}"
        elif rows[name].dtype.kind != "f" and rows[name].isna().any():
            yield f": expected a text in each row of {name}, got none"


def _array_faults(record: StageRecord, arrays: Arrays, manifest: Manifest) -> Iterator[str]:
    """What is wrong with images, each line to follow the file's name; a method's own arrays may have any shape."""
    if isinstance(record, CleanRecord | AttackRecord | CertificateRecord):
        for name, array in arrays.items():
            if array.shape != manifest.model.input_shape or str(array.dtype) != manifest.dtype:
                wanted = f"{manifest.dtype} of shape {manifest.model.input_shape}"
                yield f": image {name}: expected {wanted}, got {array.dtype} of {array.shape}"


@cache
def _empty(table: Table) -> pd.DataFrame:
    """With the columns that every part of the table has, made once."""
    return table.frame()


def _part_faults(
    record: StageRecord, planned: PlannedFile, rows: pd.DataFrame, ids: list[str], manifest: Manifest
) -> Iterator[str]:
    """What is wrong with the rows of a part, each line to follow the file's name."""
    assert planned.table is not None
    faults = list(_column_faults(rows, _empty(planned.table)))
    yield from faults
    if faults:
        return
    for column, expected in _constants(record).items():
        if column in rows:
            same = np.full(len(rows), expected, dtype=object if isinstance(expected, str) else float)
            for i in np.flatnonzero(~_equal(rows[column].to_numpy(), same, 0.0)):
                yield f", row {i}: {column} is {rows[column].iloc[i]}, expected {expected}"
    if "image_id" in rows:
        size = manifest.shard_size
        own = ids if record.one_shard else ids[int(planned.shard) * size :][:size]
        for i in np.flatnonzero(~rows["image_id"].isin(own)):
            yield f", row {i}: image_id {rows['image_id'].iloc[i]} is no image of this shard"
    if planned.table is IMAGES_TABLE:
        last = manifest.model.num_classes - 1
        for i in np.flatnonzero(~rows["label"].between(0, last)):
            yield f", row {i}: label is {rows['label'].iloc[i]}, expected a class, 0 to {last}"
    if planned.table in (IMAGES_TABLE, CERTIFICATES_TABLE):
        for i in np.flatnonzero(rows["image_id"].duplicated()):
            yield f", row {i}: image_id {rows['image_id'].iloc[i]} is there more than once"
    if isinstance(record, MethodRecord) and "quantity" in rows:
        for quantity in rows["quantity"].unique():
            if not record.declares(str(quantity)):
                yield f": quantity {quantity} is none that {record.method} declares"


def _constants(record: StageRecord) -> dict[str, object]:
    """What a column holds in every row of a stage."""
    found: dict[str, object] = {"method": record.name}
    if isinstance(record, MethodRecord) and record.norm is not None:
        found["norm"] = record.norm.value
    if isinstance(record, CertificateRecord):
        found |= {"kind": record.guarantee.value, "subject": record.subject}
        found |= {"alpha": np.nan if record.alpha is None else record.alpha}
    return found


def _image_ids(run: Run) -> list[str]:
    """The ids of the run's images in their order, as their stage has them."""
    found: list[str] = []
    for planned in planned_files(run.manifest, run.manifest.stage(CLEAN)):
        path = run.path / planned.path
        if planned.table is IMAGES_TABLE and path.is_file():
            try:
                found += map(str, read_frame(path)["image_id"])
            except (UserError, KeyError):
                continue
    return sorted(found)
