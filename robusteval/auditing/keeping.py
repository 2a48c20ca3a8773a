"""What a stage leaves of a shard, written: its part, and of its images those that the run keeps."""

from __future__ import annotations

import shutil

from robusteval.auditing.stages.base import Stage
from robusteval.auditing.stages.part import Part
from robusteval.results.atomic import Landing, writing
from robusteval.results.files import checksum, write_arrays, write_frame
from robusteval.results.keeping import kept_arrays, needed_later
from robusteval.results.mending import remove_resting
from robusteval.results.run import NEEDED, Run


def write_part(
    run: Run, stage: Stage, shard: str, part: Part, seconds: float, landing: Landing, kept: frozenset[str] | None
) -> None:
    """Write a shard, its main part last; of its arrays those of the images `kept`, None for all, and where a later
    stage needs the others, all of them beside that. Raises NotWrittenError."""
    beside = []
    arrays = kept_arrays(run.manifest.stage(stage.name), part.arrays, kept)
    if arrays or (stage.keeps_arrays and kept is None):
        beside.append(run.array_file(stage.name, shard))
        write_arrays(beside[-1], arrays, landing)
    if kept is not None and needed_later(run.manifest, stage.name):
        beside.append(run.needed_file(stage.name, shard))
        write_arrays(beside[-1], part.arrays, landing)
    for table, rows in part.others.items():
        beside.append(run.part(stage.name, shard, table))
        write_frame(beside[-1], rows, landing=landing)
    known = {path.relative_to(run.path).as_posix(): checksum(path) for path in beside}
    remove_resting(run, stage.name, shard)
    write_frame(run.part(stage.name, shard), part.rows, part.timed(seconds), known, landing)


def remove_needed(run: Run) -> None:
    """Remove the images of a finished run that none but its stages needed, and what was gathered; not what a failed
    stage needs when it is tried again. Raises NotWrittenError."""
    failed = run.manifest.failed
    for record in run.manifest.stages:
        folder = run.path / NEEDED / record.name
        if folder.is_dir() and not any(r.name == record.name or r.rests_on(record.name) for r in failed):
            with writing(folder):
                shutil.rmtree(folder)
    folder = run.path / NEEDED
    if folder.is_dir() and not any(folder.iterdir()):
        with writing(folder):
            folder.rmdir()
