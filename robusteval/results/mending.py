"""What a killed process, a damaged disk or a hand left in a run, removed, so that it is computed again. No torch."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from safetensors.numpy import load

from robusteval.results.atomic import tell, writing
from robusteval.results.files import checksum, read_beside, read_cost
from robusteval.results.records import StageRecord
from robusteval.results.run import Run
from robusteval.results.shards import PlannedFile, planned_files, planned_shards

_LEFT = re.compile(r".+\.([0-9]{1,10})\.tmp")


def remove_leftovers(folder: Path) -> None:
    """Remove what processes that are no more left half written below a folder. Raises NotWrittenError."""
    for inside, _, files in os.walk(folder):
        for name in files:
            found = _LEFT.fullmatch(name)
            if found and not _is_alive(int(found[1])):
                _remove(Path(inside) / name)


def is_leftover(path: Path) -> bool:
    """Whether a file is what a killed write left, or a write that is going on."""
    return _LEFT.fullmatch(path.name) is not None


def remove_damaged(run: Run) -> tuple[str, ...]:
    """Remove the shards of a run that are not whole, and name, by its path in the run, a file of each that is missing
    or damaged; what is sealed by its checksum must have it. The caller alone may be at work in the run. Raises
    NotWrittenError."""
    found = []
    for record in run.manifest.stages:
        for _, files in groupby(planned_files(run.manifest, record), lambda planned: planned.shard):
            shard = tuple(files)
            fault = _fault(run, record, shard)
            if fault:
                found.append(fault)
            if fault or not _begun(run, shard):
                for planned in shard:
                    _remove(run.path / planned.path)
    return tuple(found)


def remove_lacking(run: Run) -> tuple[str, ...]:
    """Remove the shards of which a later stage needs all images to compute what is missing, where the run has none but
    those that it keeps, with what rests on them; and name these images' file, by its path in the run. To be called
    after `remove_damaged`. Raises NotWrittenError."""
    found: list[str] = []
    while run.manifest.images_kept != "all" and (lacking := list(_lacking(run))):
        for record, shard in lacking:
            found.append(run.needed_file(record.name, shard).relative_to(run.path).as_posix())
            remove_resting(run, record.name, shard)
            for planned in planned_files(run.manifest, record, only=shard):
                _remove(run.path / planned.path)
    return tuple(found)


def _lacking(run: Run) -> Iterator[tuple[StageRecord, str]]:
    """The shards that are there without the images that a later stage needs to compute what is missing of it."""
    later = [record for record in run.manifest.stages if record.status != "unavailable"]
    for record in run.manifest.stages:
        resting = [other for other in later if other.rests_on(record.name)]
        for shard in planned_shards(run.manifest, record) if resting else ():
            needs = (run.part(other.name, "00000" if other.one_shard else shard) for other in resting)
            main = run.part(record.name, shard)
            missing = main.exists() and not all(part.exists() for part in needs)
            if missing and not _is_noted(run.needed_file(record.name, shard), main, run):
                yield record, shard


def _is_noted(path: Path, main: Path, run: Run) -> bool:
    """Whether a file is there as the main part of its shard notes it."""
    noted = (read_beside(main) or {}).get(path.relative_to(run.path).as_posix())
    return path.is_file() and checksum(path) == noted


def remove_resting(run: Run, stage: str, shard: str) -> None:
    """Remove what rests on the shard of a stage that is about to be written: it was made without that, or of what was
    damaged. The main part goes first. Raises NotWrittenError."""
    for record in run.manifest.stages:
        if record.rests_on(stage):
            _remove(run.gathered_part(record.name, shard))
            for planned in planned_files(run.manifest, record, only=shard):
                _remove(run.path / planned.path)


def _begun(run: Run, shard: tuple[PlannedFile, ...]) -> bool:
    """Whether its main part is there, which is written last."""
    return (run.path / shard[0].path).exists()


def _fault(run: Run, record: StageRecord, shard: tuple[PlannedFile, ...]) -> str:
    """The first file of a shard that is missing or damaged; empty where it is whole, and where it never was there."""
    sealed = {p.path: run.manifest.evidence[p.path] for p in shard if p.path in run.manifest.evidence}
    if not _begun(run, shard):
        return shard[0].path if sealed or record.done else ""
    main = run.path / shard[0].path
    if not _readable(main, shard[0]):
        return shard[0].path
    noted = read_beside(main)
    expected = {**(noted or {}), **sealed}
    for planned in shard:
        path = run.path / planned.path
        if not path.is_file():
            if planned.path in expected or (planned.required and noted is None):
                return planned.path
        elif planned.path in expected:
            if checksum(path) != expected[planned.path]:
                return planned.path
        elif planned is not shard[0] and (noted is not None or not _readable(path, planned)):
            return planned.path
    return ""


def _readable(path: Path, planned: PlannedFile) -> bool:
    """Whether a file holds its table, every page with its own checksum, or arrays."""
    if not path.is_file():
        return False
    content = path.read_bytes()
    try:
        if planned.table is None:
            load(content)
            return True
        rows = pq.read_table(pa.BufferReader(content), page_checksum_verification=True)
        read_cost(path)
        read_beside(path)
        return set(planned.table.names) <= set(rows.schema.names)
    except MemoryError:
        raise
    except Exception:  # what is damaged raises all kinds
        return False


def _remove(path: Path) -> None:
    with writing(path):
        path.unlink(missing_ok=True)
    tell(path)


def _is_alive(process: int) -> bool:
    """Whether another process of that number is at work, as far as can be told; what this one left is from before."""
    if process == os.getpid():
        return False
    if os.name != "posix":
        return True
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        return True
    return True
