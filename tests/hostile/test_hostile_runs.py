"""A competent forger: every column of every table and part, every key of the manifest, every file of a run is changed,
one claim at a time, sealed again where he can, and `verify` names each."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Iterator
from fnmatch import fnmatch
from pathlib import Path

import pytest

from forging import BATCH, Key, audited, copied, forge_cells, forge_key, leaves, other, sealed
from robusteval import Run, UserError, verify
from robusteval.auditing.verify import unchecked
from robusteval.results.manifest import NAME
from robusteval.results.records import CLEAN, REPEAT, SANITY
from robusteval.results.run import read_arrays, read_cost, read_frame, write_arrays, write_frame
from robusteval.results.shards import planned_files
from robusteval.results.tables import TABLES

UNKNOWABLE = (
    "robusteval",
    "versions.*",
    "device",
    "command*",
    "started",
    "finished",
    "protocol.name",
    "protocol.description",
    "data.source",
    "data.class_names.*",
    "data.limit",
    "averaged",
)
"""The keys of the manifest that `verify` lists as unchecked; every other one it names when it is changed."""
COUNTED: dict[str, int] = {}
"""Forgeries that were named, by kind."""


@pytest.fixture(scope="module")
def honest(tmp_path_factory: pytest.TempPathFactory, demo_folder: Path) -> Run:
    return audited(tmp_path_factory.mktemp("honest"), demo_folder)


@pytest.fixture(scope="module", autouse=True)
def _at_least_300() -> Iterator[None]:
    yield
    print(COUNTED)
    assert sum(COUNTED.values()) >= 300 or len(COUNTED) < 8, COUNTED


def named(run: Run, needles: Iterable[str], kind: str, attacks: int | None = 0) -> None:
    """Every needle stands in a line of `verify`, which is listened to no longer than that takes."""
    left, lines = set(needles), []
    COUNTED[kind] = COUNTED.get(kind, 0) + len(left)
    for line in verify(run, attacks=attacks):
        lines.append(line)
        left -= {needle for needle in left if all(part in line for part in needle.split("&"))}
        if not left:
            return
    assert not left, "\n".join(["not named:", *sorted(left), "but:", *lines])


def test_the_honest_run_verifies_with_every_attack_run_again(honest: Run) -> None:
    before = tree(honest.path)
    assert list(verify(honest, attacks=None)) == []
    assert tree(honest.path) == before, "verify wrote into the run"


def tree(path: Path) -> dict[str, tuple[int, bytes]]:
    return {str(p): (p.stat().st_mtime_ns, p.read_bytes() if p.is_file() else b"") for p in sorted(path.rglob("*"))}


def test_every_column_of_every_table(honest: Run, tmp_path: Path) -> None:
    """In each copy as many columns of every table as it has rows, each in its own row."""
    left = {name: list(honest.table(name).columns) for name in TABLES}
    while any(left.values()):
        run, needles = copied(honest, tmp_path / str(len(left["bounds"]) + len(left["calibration"]))), []
        for name, columns in left.items():
            rows = len(honest.table(name))
            some, left[name] = list(enumerate(columns[:rows])), columns[rows:]
            forge_cells(run.path / "tables" / f"{name}.parquet", some)
            needles += [f"table {name}, row {i} (&: {column} is " for i, column in some]
        named(run, needles, "columns of tables")


def test_every_line_of_the_csv(honest: Run, tmp_path: Path) -> None:
    run = copied(honest, tmp_path / "run")
    path = run.path / "tables" / "bounds.csv"
    lines = path.read_text().splitlines()
    path.write_text("\n".join(f"{line}1" for line in lines))
    named(run, (f"bounds.csv, line {i} (" for i in range(1, len(lines) + 1)), "lines of bounds.csv")


def parts(run: Run) -> Iterator[tuple[str, Path, list[str]]]:
    """The parts of the first shard of each stage, and of the set: the name of the stage, the path and the columns."""
    for record in run.manifest.stages:
        for planned in planned_files(run.manifest, record):
            path = run.path / planned.path
            if planned.table is not None and path.is_file() and len(read_frame(path)) and planned.shard != "00001":
                yield record.name, path, list(read_frame(path).columns)


CONSTANT = ("image_id", "method", "norm", "kind", "subject", "alpha", "quantity")


def test_columns_that_name_the_stage_the_image_and_the_guarantee(honest: Run, tmp_path: Path) -> None:
    """One part after another: a row for each such column."""
    run, needles = copied(honest, tmp_path / "run"), []
    for stage, path, columns in parts(honest):
        for row, column in enumerate(c for c in columns if c in CONSTANT and not (c == "quantity" and own(stage))):
            rows = len(read_frame(path))
            forge_cells(run.path / path.relative_to(honest.path), [(row % rows, column)])
            where = f", row {row % rows}: {column}" if column != "quantity" else ": quantity "
            needles.append(f"{path.relative_to(honest.path)}{where}")
    run.updated(evidence=sealed_evidence(run))
    named(Run.open(run.path), needles, "naming columns of parts")


def own(stage: str) -> bool:
    """Whether its quantities are declared by no method."""
    return stage in (SANITY, CLEAN, REPEAT)


def sealed_evidence(run: Run) -> dict[str, str]:
    from robusteval.results.run import checksum

    return {p.relative_to(run.path).as_posix(): checksum(p) for p in run.evidence()}


def test_columns_of_numbers_with_all_tables_rebuilt(honest: Run, tmp_path: Path) -> None:
    """A row for each column of numbers, in the same copy; attacks are run again on all images."""
    run, needles = copied(honest, tmp_path / "run"), []
    for stage, path, columns in parts(honest):
        if stage == CLEAN:
            continue
        free = [c for c in columns if c not in CONSTANT]
        rows = len(read_frame(path))
        forge_cells(run.path / path.relative_to(honest.path), [(i % rows, c) for i, c in enumerate(free[:rows])])
        needles += [f"stage {stage}&: {c} is " for c in free[:rows]]
    named(sealed(run), needles, "numbers in parts", attacks=None)


@pytest.mark.parametrize("column", ["label", "predicted", "correct", "logit_margin", "probability_margin"])
def test_columns_of_the_predictions(honest: Run, tmp_path: Path, column: str) -> None:
    run = copied(honest, tmp_path / "run")
    forge_cells(run.part(CLEAN, "00001"), [(1, column)])
    needle = "data.fingerprint" if column == "label" else f"stage clean, row 1 (&: {column} is "
    named(sealed(run), [needle], "numbers in parts")


def test_every_file_removed(honest: Run, tmp_path: Path) -> None:
    for half in (0, 1):
        run = copied(honest, tmp_path / f"run-{half}")
        gone = [p.relative_to(run.path).as_posix() for p in run.evidence()][half::2]
        for name in gone:
            (run.path / name).unlink()
        kept = {k: v for k, v in run.manifest.evidence.items() if k not in gone}
        required = {p.path for r in run.manifest.stages for p in planned_files(run.manifest, r) if p.required}
        named(run, (f"{name} is missing" for name in gone), "files removed")
        named(run.updated(evidence=kept), (f"{n} is missing" for n in gone if n in required), "files removed, sealed")


def test_every_file_cut_short_and_sealed(honest: Run, tmp_path: Path) -> None:
    run = copied(honest, tmp_path / "run")
    for path in run.evidence():
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    run = run.updated(evidence=sealed_evidence(run))
    named(run, (f"expected a readable&{p}" if p.suffix == ".parquet" else f"readable images&{p}" for p in
                run.evidence()), "files cut short")


def test_every_file_changed_and_not_sealed(honest: Run, tmp_path: Path) -> None:
    run = copied(honest, tmp_path / "run")
    for path in run.evidence():
        path.write_bytes(path.read_bytes() + b" ")
    named(run, (f"{p.relative_to(run.path)} was changed" for p in run.evidence()), "files changed")


def test_foreign_files_beside_every_stage(honest: Run, tmp_path: Path) -> None:
    """A part of a shard that was never planned, and witnesses; sealed, they change no table and are named."""
    run, names = copied(honest, tmp_path / "run"), []
    for record in run.manifest.stages:
        own_part = run.part(record.name, "00000")
        for shard in ("00099", "0", "x"):
            shutil.copy(own_part, own_part.with_name(f"{shard}.parquet"))
            names.append(f"parts/{record.name}/{shard}.parquet")
        strange = run.part(record.name, "00000", "certificates")
        shutil.copy(own_part, strange)
        names.append(str(strange.relative_to(run.path)))
        images = run.array_file(record.name, "00099")
        images.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(run.array_file(CLEAN, "00000"), images)
        names.append(str(images.relative_to(run.path)))
    for stray in ("tables/proofs.parquet", "tables/images.csv", "failures/pgd-linf.txt", "parts/foreign/00000.parquet"):
        (run.path / stray).parent.mkdir(exist_ok=True)
        (run.path / stray).write_bytes(b"x")
        names.append(stray)
    run = sealed(run)
    for name in TABLES:
        assert run.table(name).equals(honest.table(name)), name
    named(run, (f"{name} is not part of the run" for name in names), "files added")


def test_foreign_files_change_nothing_when_the_audit_goes_on(honest: Run, tmp_path: Path, demo_folder: Path) -> None:
    run = copied(honest, tmp_path / "run")
    shutil.copy(run.part("lipschitz-l2", "00000"), run.part("lipschitz-l2", "00099"))
    shutil.copy(run.array_file("pgd-linf", "00000"), run.array_file("pgd-linf", "00099"))
    run.part(CLEAN, "00001").unlink()
    continued = audited(tmp_path, demo_folder)
    for name in TABLES:
        assert continued.table(name).equals(honest.table(name)), name
    assert not [name for name in continued.manifest.evidence if "00099" in name]
    assert continued.manifest.stage("lipschitz-l2").cost.forwards == honest.manifest.stage("lipschitz-l2").cost.forwards
    named(continued, ["parts/lipschitz-l2/00099.parquet is not", "witnesses/pgd-linf/00099"], "files added")


def test_files_swapped_between_shards(honest: Run, tmp_path: Path) -> None:
    run, needles = copied(honest, tmp_path / "run"), []
    for record in run.manifest.stages:
        files = [p for p in planned_files(run.manifest, record) if p.table is not None and p.shard == "00000"]
        for planned in files:
            one, two = run.path / planned.path, run.path / planned.path.replace("00000", "00001")
            if not record.one_shard and one.is_file() and two.is_file():
                content = one.read_bytes()
                one.write_bytes(two.read_bytes())
                two.write_bytes(content)
                needles.append(f"{planned.path}, row 0: image_id")
    named(sealed(run), needles, "files swapped")


def test_witnesses_swapped_between_stages_and_planted(honest: Run, tmp_path: Path) -> None:
    run = copied(honest, tmp_path / "run")
    path = run.array_file("pgd-linf", "00000")
    own, foreign = read_arrays(path), read_arrays(run.array_file("deepfool-l2", "00000"))
    write_arrays(path, own | {"0.05/nobody": next(iter(own.values()))})
    write_arrays(run.array_file("deepfool-l2", "00000"), {k: v * 0.5 for k, v in foreign.items()})
    needles = ["image 0.05/nobody is a witness of no row", *(f"stage deepfool-l2, row&{k.split('/')[1]}" for k in foreign)]
    named(sealed(run), needles, "witnesses")


def test_every_key_of_the_manifest(honest: Run, tmp_path: Path) -> None:
    run = copied(honest, tmp_path / "run")
    text = (run.path / NAME).read_text()
    heads = [head for line in unchecked(honest) for head in line.split(":")[0].split(", ")]
    silent = []
    for key, _ in leaves(json.loads(text)):
        (run.path / NAME).write_text(text)
        forge_key(run, key)
        dotted = ".".join(map(str, key))
        if not says(run.path, key):
            silent.append(dotted)
    COUNTED["keys of the manifest"] = len(list(leaves(json.loads(text)))) - len(silent)
    surprising = [key for key in silent if not any(fnmatch(key, pattern) for pattern in UNKNOWABLE)]
    assert not surprising, surprising
    assert all(any(fnmatch(key, f"{head}*") for head in heads) for key in silent), (silent, heads)


def says(path: Path, key: Key) -> bool:
    """Whether a run with a forged key of its manifest is refused by a line, or named by verify, with that key."""
    try:
        return any(True for line in verify(Run.open(path), attacks=None))
    except UserError:
        return True
