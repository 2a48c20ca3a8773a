"""The files of a run: exactly those of the planned shards, with the checksums of the manifest."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from robusteval.auditing.verification.finding import Finding, held_against, unknown, wrong
from robusteval.results.files import checksum
from robusteval.results.lock import LOCK
from robusteval.results.mending import is_leftover
from robusteval.results.run import NEEDED, Run
from robusteval.results.shards import planned_files
from robusteval.results.tables import TABLES

_NUMBER = re.compile(rb"[0-9]{0,10}")


def check_files(run: Run) -> Iterator[Finding]:
    """One for each file that is missing, was changed, or is none of the planned ones."""
    sealed, manifest = run.manifest.evidence, run.manifest
    planned = {p.path: p.required and r.done for r in manifest.stages for p in planned_files(manifest, r)}
    found = set(_below(run.path, "parts", "witnesses"))
    count = 0
    for name in sorted(found | sealed.keys() | {name for name, required in planned.items() if required}):
        if name not in found:
            yield wrong(f"{name} is missing")
        elif name not in planned:
            yield wrong(f"{name} is not part of the run")
        elif name not in sealed:
            yield wrong(f"{name} is not part of the run as it was sealed: the manifest has no checksum of it")
        elif not (run.path / name).is_file():
            yield wrong(f"{name} is not a file")
        else:
            count += 1
            if checksum(run.path / name) != sealed[name]:
                yield wrong(f"{name} was changed since the audit wrote it")
    # What else lies in tables/ is the report's.
    tables = {f"tables/{name}.parquet" for name in TABLES} | {"tables/bounds.csv"}
    there = set(_below(run.path, "tables"))
    yield from (wrong(f"{name} is not part of the run") for name in sorted(there - tables) if name.endswith(".parquet"))
    yield from (wrong(f"{name} is missing") for name in sorted(tables - there))
    some = manifest.images_kept != "all"
    for name in _below(run.path, NEEDED):
        known = name.split("/")[1] in {r.name for r in manifest.stages if r.status == "failed" or some}
        yield (
            unknown(f"{name}: for failed stages; it belongs to no claim")
            if known
            else wrong(f"{name} is not part of the run")
        )
    failed = {f"failures/{record.name}.txt" for record in manifest.failed}
    yield from (wrong(f"{n} is not part of the run") for n in sorted(set(_below(run.path, "failures")) - failed))
    yield from _hidden(run)
    yield held_against("files of evidence against the checksums of the manifest", count)


def _hidden(run: Run) -> Iterator[Finding]:
    """What is neither evidence nor a page, wherever it lies: what a killed write left, a lock, empty folders."""
    own = {"parts", "witnesses", "tables", "failures", "figures"}
    own |= {f"{kind}/{record.name}" for kind in ("parts", "witnesses") for record in run.manifest.stages}
    for path in sorted(run.path.rglob("*")):
        name = path.relative_to(run.path).as_posix()
        if path.is_dir():
            if name not in own and not any(path.iterdir()):
                yield wrong(f"{name}/ is not part of the run: an empty folder")
        elif is_leftover(path):
            yield unknown(f"{name}: what a write left that was killed; it belongs to no claim")
        elif path.suffix == ".tmp":
            yield wrong(f"{name} is not part of the run")
        elif name == LOCK and not _NUMBER.fullmatch(path.read_bytes()):
            yield wrong(f"{name} is none that an audit leaves, which holds the number of its process")


def _below(path: Path, *folders: str) -> Iterator[str]:
    """Everything in some folders that is no folder, by its path in the run, but for what `_hidden` names."""
    for folder in folders:
        for found in (path / folder).rglob("*"):
            if found.suffix != ".tmp" and (found.is_symlink() or not found.is_dir()):
                yield found.relative_to(path).as_posix()
