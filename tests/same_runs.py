"""Two runs of the same request held against each other: everything but the times must be the same."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from robusteval import Run
from robusteval.reports import write_report
from robusteval.results.files import read_arrays
from robusteval.results.manifest import Manifest
from robusteval.results.mending import is_leftover
from robusteval.results.tables import TABLES


def differences(one: Run, other: Run, pages: bool = True) -> list[str]:
    """Where two runs of the same request differ in more than times, line by line: the manifests, else what lies in the
    two, else the tables and the images, else the `pages`, if they were written."""
    timeless = like(one.manifest, other.manifest)
    old, new = one.manifest.model_dump(), timeless.model_dump()
    found = [f"the manifest differs in {key}" for key in old if old[key] != new[key]]
    ours, theirs = files(one.path), files(other.path)
    found = found or [f"{name} is in one only" for name in sorted(ours ^ theirs)]
    found = found or [*_of_values(one, other, ours)]
    return found or [*_of_pages(one, Run(other.path, timeless))] if pages else found


def _of_values(one: Run, other: Run, names: set[str]) -> Iterator[str]:
    for name in TABLES:
        if not one.table(name).equals(other.table(name)):
            yield f"table {name} differs"
    for name in sorted(names):
        if name.endswith(".safetensors"):
            left, right = read_arrays(one.path / name), read_arrays(other.path / name)
            if left.keys() != right.keys() or any(not np.array_equal(left[k], right[k], True) for k in left):
                yield f"{name} differs"


def _of_pages(one: Run, other: Run) -> Iterator[str]:
    """Those of the other run are made again, with the times of the first in its manifest."""
    with TemporaryDirectory() as folder:
        again = Path(folder)
        write_report(other, into=again)
        for name in sorted(files(again)):
            if not (one.path / name).is_file() or (one.path / name).read_bytes() != (again / name).read_bytes():
                yield f"{name} differs"


def files(folder: Path) -> set[str]:
    """What lies in a run, but for what killed writes leave until the next audit."""
    found = (p for p in folder.rglob("*") if p.is_file() and not is_leftover(p))
    return {p.relative_to(folder).as_posix() for p in found}


def like(one: Manifest, other: Manifest) -> Manifest:
    """The other manifest with the times, the command and, for the same files, the checksums of the first: parts hold
    their seconds."""
    costs = {s.name: s.cost for s in one.stages}
    stages = []
    for stage in other.stages:
        cost = costs.get(stage.name, stage.cost)
        own = stage.cost.model_copy(update={"seconds": cost.seconds, "model_seconds": cost.model_seconds})
        stages.append(stage.model_copy(update={"cost": own}))
    same: dict[str, object] = {
        "command": one.command,
        "started": one.started,
        "finished": one.finished,
        "stages": tuple(stages),
    }
    if one.evidence.keys() == other.evidence.keys():
        same["evidence"] = one.evidence
    return other.model_copy(update=same)
