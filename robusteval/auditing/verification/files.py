"""The files of a run: exactly those of the planned shards, with the checksums of the manifest."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from robusteval.auditing.verification.finding import Finding, held_against, wrong
from robusteval.results.run import Run, checksum
from robusteval.results.shards import planned_files
from robusteval.results.tables import TABLES


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
    failed = {f"failures/{record.name}.txt" for record in manifest.failed}
    yield from (wrong(f"{n} is not part of the run") for n in sorted(set(_below(run.path, "failures")) - failed))
    yield held_against("files of evidence against the checksums of the manifest", count)


def _below(path: Path, *folders: str) -> Iterator[str]:
    """Everything in some folders that is no folder, by its path in the run, but for what a killed write left."""
    for folder in folders:
        for found in (path / folder).rglob("*"):
            if found.suffix != ".tmp" and (found.is_symlink() or not found.is_dir()):
                yield found.relative_to(path).as_posix()
