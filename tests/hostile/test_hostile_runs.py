"""A competent forger: every column of every table and part, every key of the manifest, every file of a run is changed,
one claim at a time, sealed again where he can, and `verify` names each."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Iterator
from fnmatch import fnmatch
from functools import lru_cache
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

import robusteval
from commands import here
from forging import Key, audited, copied, forge_cells, forge_key, leaves, sealed
from robusteval import Run, UserError, read_images, verify
from robusteval.auditing.verification import claims, tables
from robusteval.auditing.verify import examine, unchecked
from robusteval.core.methods import Guarantee
from robusteval.results import tabulate
from robusteval.results.files import checksum, read_arrays, read_cost, read_frame, write_arrays, write_frame
from robusteval.results.manifest import NAME
from robusteval.results.records import CLEAN, REPEAT, SANITY, Cost
from robusteval.results.shards import planned_files
from robusteval.results.tables import TABLES
from robusteval.results.tabulate import write_tables

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
    "data.reading.*_column",
    "data.reading.split",
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
        for row, column in enumerate(c for c in columns if c in CONSTANT and not spared(stage, c)):
            rows = len(read_frame(path))
            forge_cells(run.path / path.relative_to(honest.path), [(row % rows, column)])
            where = f", row {row % rows}: {column}" if column != "quantity" else ": quantity "
            needles.append(f"{path.relative_to(honest.path)}{where}")
    run.updated(evidence=sealed_evidence(run))
    named(Run.open(run.path), needles, "naming columns of parts")


def spared(stage: str, column: str) -> bool:
    """Quantities that no method declares, and the names of the images themselves, of which all others follow."""
    return (stage in (SANITY, REPEAT) and column == "quantity") or (stage == CLEAN and column == "image_id")


def sealed_evidence(run: Run) -> dict[str, str]:
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
    named(
        run,
        (f"expected a readable&{p}" if p.suffix == ".parquet" else f"readable images&{p}" for p in run.evidence()),
        "files cut short",
    )


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
    for stray in ("tables/proofs.parquet", "failures/pgd-linf.txt", "parts/foreign/00000.parquet"):
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
    needles = [
        "image 0.05/nobody is a witness of no row",
        *(f"stage deepfool-l2, row&{k.split('/')[1]}" for k in foreign),
    ]
    named(sealed(run), needles, "witnesses")


def test_every_key_of_the_manifest(honest: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One after another, but for those that nothing can tell: these all at once, with no line but that they are
    unchecked. Parts and tables stay as they are, and are read once."""
    monkeypatch.setattr(claims, "read_cost", lru_cache(None)(read_cost))
    for module in (tables, tabulate):
        monkeypatch.setattr(module, "read_frame", lru_cache(None)(read_frame))
    run, known = copied(honest, tmp_path / "run"), {f.line for f in examine(honest, attacks=0)}
    text = (run.path / NAME).read_text()
    keys = [key for key, _ in leaves(json.loads(text))]
    batch = [key for key in keys if key[-1] == "batch_independent"]
    silent = [key for key in keys if any(fnmatch(dotted(key), pattern) for pattern in UNKNOWABLE)]
    for key in (key for key in keys if key not in batch and key not in silent):
        (run.path / NAME).write_text(text)
        forge_key(run, key)
        assert said(run.path, known), dotted(key)
    (run.path / NAME).write_text(text)
    for key in batch:
        forge_key(run, key)
    named(Run.open(run.path), (f"stages.{key[1]} (&.batch_independent: is " for key in batch), "keys of the manifest")
    COUNTED["keys of the manifest"] = len(keys) - len(silent)
    (run.path / NAME).write_text(text)
    for key in silent:
        forge_key(run, key)
    assert list(verify(Run.open(run.path), attacks=0)) == []
    heads = [head for line in unchecked(honest) for head in line.split(":")[0].split(", ")]
    assert all(any(fnmatch(dotted(key), f"{head}*") for head in heads) for key in silent), (silent, heads)


def dotted(key: Key) -> str:
    return ".".join(map(str, key))


def said(path: Path, known: set[str]) -> bool:
    """Whether a run with a forged key of its manifest is refused by a line, or verify has one that is new."""
    try:
        return any(f.kind != "checked" and f.line not in known for f in examine(Run.open(path), attacks=0))
    except UserError:
        return True


def test_a_run_that_hides_what_it_could_not_do(tmp_path: Path, demo_folder: Path, honest: Run) -> None:
    """A method that runs, called unavailable; a reason that is another; one that could not run, called done."""
    lacking = audited(tmp_path, demo_folder, sources=False)
    assert lacking.manifest.stage("transfer-linf").status == "unavailable"
    assert list(verify(lacking, attacks=0)) == []
    reason = lacking.manifest.stage("transfer-linf").model_copy(update={"reason": "no time"})
    named(copied(lacking, tmp_path / "reason").with_stage(reason), ["stages (transfer-linf).reason"], "statuses")
    done = lacking.manifest.stage("transfer-linf").model_copy(update={"status": "done", "reason": ""})
    named(
        copied(lacking, tmp_path / "done").with_stage(done), ["parts/transfer-linf/00000.parquet is miss"], "statuses"
    )
    for stage in ("pgd-linf", "lipschitz-l2", "gaussian-noise"):
        run = copied(honest, tmp_path / stage)
        shutil.rmtree(run.path / "parts" / stage)
        shutil.rmtree(run.path / "witnesses" / stage, ignore_errors=True)
        hidden = {"status": "unavailable", "reason": "expected gradients, got none", "cost": Cost()}
        run = sealed(run.with_stage(run.manifest.stage(stage).model_copy(update=hidden)))
        named(run, [f"stages ({stage}).status: is unavailable, expected done"], "statuses")


def test_a_lipschitz_constant_divided_with_all_that_follows(honest: Run, tmp_path: Path) -> None:
    """The state, the radii, the tables and the checksums agree with each other; the images disagree."""
    run = copied(honest, tmp_path / "run")
    path = run.part("l-bound-l2", "set", "statistics")
    rows = read_frame(path)
    rows["value"] = rows["value"].where(
        ~rows["quantity"].isin(["L", "maximum", "gev_loc", "gev_scale"]), rows["value"] / 100
    )
    write_frame(path, rows, read_cost(path))
    for shard in ("00000", "00001"):
        part = run.part("l-bound-l2", shard)
        radii = read_frame(part)
        write_frame(part, radii.assign(radius=radii["radius"] * 100), read_cost(part))
    where = [f"stage l-bound-l2, whole set, row {i} " for i in rows.index[rows["quantity"].isin(["L", "maximum"])]]
    named(sealed(run), [*where, "stage l-bound-l2, row 0 (&: radius is "], "certificates")


def test_an_estimate_relabelled_as_proof(honest: Run, tmp_path: Path) -> None:
    run = copied(honest, tmp_path / "run")
    for shard in ("00000", "00001"):
        part = run.part("l-bound-l2", shard)
        write_frame(part, read_frame(part).assign(kind="proof"), read_cost(part))
    record = run.manifest.stage("l-bound-l2").model_copy(update={"guarantee": Guarantee.PROOF})
    named(sealed(run.with_stage(record)), ["(l-bound-l2).guarantee: is proof, expected estimate"], "certificates")


def test_a_model_said_to_be_random_is_looked_at(honest: Run, tmp_path: Path) -> None:
    """Of a model whose outputs are random nothing could be computed again: the run's word for that is not enough."""
    run = copied(honest, tmp_path / "run")
    path = run.part(SANITY, "00000", "statistics")
    rows = read_frame(path)
    flags = {"random": 1.0, "seedable": 0.0}
    rows["value"] = [flags.get(q, v) for q, v in zip(rows["quantity"], rows["value"], strict=True)]
    write_frame(path, rows, read_cost(path))
    named(sealed(run), (f"quantity {flag}, at 0.0): value is " for flag in flags), "certificates")


def test_images_that_are_not_those_of_the_data_set(honest: Run, tmp_path: Path) -> None:
    """Pixels and labels with a fingerprint that follows are another data set, which only the data can tell."""
    run = copied(honest, tmp_path / "run")
    arrays = read_arrays(run.array_file(CLEAN, "00000"))
    first, second = sorted(arrays)[:2]
    write_arrays(run.array_file(CLEAN, "00000"), arrays | {first: arrays[first] * 0.5})
    digits = read_images("digits")
    assert list(verify(honest, attacks=0, data=digits)) == []
    for data, words in ((None, 1), (digits, 0)):
        open_claims = [f.line for f in examine(honest, attacks=0, data=data) if f.kind == "unchecked"]
        assert sum(line.startswith("data.source") for line in open_claims) == words
    lines = list(verify(sealed(run), attacks=0, data=digits))
    assert f"witnesses/clean, image {first}: its pixels are not those in digits" in lines
    assert not [line for line in lines if second in line and "pixels" in line]
    COUNTED["images"] = 1


def test_a_network_in_the_run_runs_for_nobody(tmp_path: Path) -> None:
    """A path in a manifest is no permission: what needs it waits, and files and tables are checked all the same."""
    torch.manual_seed(0)
    source = "import torch.nn as nn\ndef build():\n    return nn.Sequential(nn.Flatten(), nn.Linear(4, 2))\n"
    (tmp_path / "net.py").write_text(source)
    save_file(nn.Sequential(nn.Flatten(), nn.Linear(4, 2)).state_dict(), tmp_path / "net.safetensors")
    (tmp_path / "few.toml").write_text('[[attacks]]\nmethod = "fgsm"\nnorm = "linf"\nbudgets = [0.1]\n')
    data = (torch.rand(3, 1, 2, 2), torch.tensor([0, 1, 0]))
    arch = f"{tmp_path / 'net.py'}:build"
    model, few = tmp_path / "net.safetensors", str(tmp_path / "few.toml")
    run = robusteval.audit(model, data, few, tmp_path / "run", arch=arch, device="cpu")
    canary = tmp_path / "canary"
    (tmp_path / "evil.py").write_text(f"open({str(canary)!r}, 'w')\n{source}")
    planted = run.updated(model=run.manifest.model.model_copy(update={"arch": f"{tmp_path / 'evil.py'}:build"}))
    done = here("verify", planted.path)
    assert done.returncode == 3
    assert "expected permission to run" in done.stderr
    assert not canary.exists()
    inside = run.path / "evil.py"
    shutil.move(tmp_path / "evil.py", inside)
    run.updated(model=run.manifest.model.model_copy(update={"arch": f"{inside}:build"}))
    done = here("verify", planted.path)
    assert done.returncode == 1
    assert "evil.py is none of the pages" in done.stderr
    assert "expected permission to run" in done.stderr
    assert not canary.exists()
    inside.unlink()
    (run.path / "tables" / "images.parquet").unlink()
    done = here("verify", planted.path)
    assert done.returncode == 1
    assert "tables/images.parquet is missing" in done.stderr
    assert not canary.exists()
    write_tables(run)
    done = here("verify", planted.path, "--arch", arch)
    assert done.returncode == 1
    assert "model.arch: is " in done.stderr
    run.write_manifest()
    assert here("verify", run.path, "--arch", arch, "--attacks").returncode == 0
    assert not canary.exists()
    COUNTED["programs"] = 2
