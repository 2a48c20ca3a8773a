"""Bytes of a run that no writer of it would leave, sealed: `verify` names each in a line or refuses the manifest in
one, and what was found before is not lost."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Iterator
from functools import reduce
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from forging import audited, copied
from robusteval import Run, UserError
from robusteval.auditing.verification.files import check_files
from robusteval.auditing.verification.finding import Finding, contained, wrong
from robusteval.auditing.verification.tables import check_parts, check_tables
from robusteval.auditing.verify import examine
from robusteval.results.files import read_arrays, read_cost, read_frame, write_arrays
from robusteval.results.manifest import NAME, read_manifest

Check = Callable[[Run], Iterator[Finding]]
CLEAN_PART, ATTACK_PART = "parts/clean/00000.parquet", "parts/pgd-linf/00000.parquet"
CLEAN_IMAGES, WITNESSES = "witnesses/clean/00000.safetensors", "witnesses/deepfool-l2/00000.safetensors"
NAN, INFINITE = float("nan"), float("inf")


@pytest.fixture(scope="module")
def honest(tmp_path_factory: pytest.TempPathFactory, demo_folder: Path) -> Run:
    return audited(tmp_path_factory.mktemp("honest"), demo_folder)


def said(check: Check, run: Run) -> list[str]:
    return [f.line for f in contained("check", check(run)) if f.kind == "wrong"]


def test_nothing_is_wrong_with_the_honest_run(honest: Run) -> None:
    assert [line for check in (check_files, check_parts, check_tables) for line in said(check, honest)] == []


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *((f"stages.2.cost.{k}", v) for k in ("seconds", "model_seconds", "forwards") for v in (NAN, INFINITE, -1.0)),
        *(("model.training_seconds", v) for v in (NAN, INFINITE, -1.0)),
        ("model.mean", [NAN]),
        ("protocol.budgets.linf", [NAN]),
        ("protocol.budgets.l1", [INFINITE]),
        ("protocol.attacks.0.steps", NAN),
        ("stages.2.settings.steps", -INFINITE),
        ("stages.2.settings.steps", json.loads("[" * 500 + "]" * 500)),
        *(("data.count", n) for n in (0, -1, 10**9, 10**18)),
        *(("averaged", n) for n in (0, -1, 10**9)),
        *(("batch_size", n) for n in (-5, 10**30)),
        *(("seed", n) for n in (-1, 10**30)),
        ("dtype", "bfloat16"),
        *(("model.input_shape", shape) for shape in ([1, -8, 8], [0, 0, 0], [1, 10**5, 10**5])),
        *(("model.num_classes", n) for n in (0, 10**12)),
        *(("protocol.top", n) for n in (0, -1)),
        ("protocol.target", -1),
        ("stages", []),
    ],
)
def test_values_that_no_manifest_has(honest: Run, tmp_path: Path, key: str, value: Any) -> None:
    document = json.loads((honest.path / NAME).read_text())
    *folders, last = [int(k) if k.isdigit() else k for k in key.split(".")]
    reduce(lambda place, k: place[k], folders, document)[last] = value
    (tmp_path / NAME).write_text(json.dumps(document))
    with pytest.raises(UserError, match=r"expected a (manifest in|readable)"):
        read_manifest(tmp_path / NAME)


@pytest.mark.parametrize("change", [lambda s: [x for x in s if x["name"] != "clean"], lambda s: [*s, s[-1]]])
def test_stages_that_cannot_be_told_apart(
    honest: Run, tmp_path: Path, change: Callable[[list[Any]], list[Any]]
) -> None:
    document = json.loads((honest.path / NAME).read_text())
    (tmp_path / NAME).write_text(json.dumps(document | {"stages": change(document["stages"])}))
    with pytest.raises(UserError, match="expected stages of different names, clean among them"):
        read_manifest(tmp_path / NAME)


def rewritten(path: Path, change: Callable[[pd.DataFrame], pd.DataFrame], index: bool = False) -> None:
    table = pa.Table.from_pandas(change(read_frame(path)), preserve_index=index)
    pq.write_table(
        table.replace_schema_metadata({**pq.read_schema(path).metadata, **(table.schema.metadata or {})}), path
    )


def first(column: str, value: object) -> Callable[[pd.DataFrame], pd.DataFrame]:
    return lambda f: f.assign(**{column: pd.Series([value, *f[column].tolist()[1:]])})


@pytest.mark.parametrize(
    ("part", "change", "line"),
    [
        (CLEAN_PART, first("label", None), "expected int64 in label"),
        (CLEAN_PART, lambda f: f.assign(label=f["label"].astype(str)), "expected int64 in label, got"),
        (CLEAN_PART, lambda f: f.assign(label=[[1]] * len(f)), "expected int64 in label, got object"),
        (CLEAN_PART, lambda f: f.assign(label=f["label"].astype("int8")), "expected int64 in label, got int8"),
        *((CLEAN_PART, first("label", n), f"row 0: label is {n}, expected a class") for n in (99, 2**62, -100)),
        (CLEAN_PART, lambda f: f.assign(image_id=f["image_id"].astype("category")), "in image_id, got category"),
        (CLEAN_PART, lambda f: pd.concat([f, f.iloc[:1]]), "is there more than once"),
        (CLEAN_PART, first("correct", None), "expected bool in correct"),
        (ATTACK_PART, first("norm", None), "each row of norm, got none"),
        (ATTACK_PART, lambda f: f.assign(linf=f["linf"].astype("float32")), "expected float64 in linf, got float32"),
        (ATTACK_PART, lambda f: f.assign(linf=f["linf"].map(repr)), "expected float64 in linf, got"),
        (ATTACK_PART, lambda f: f.drop(columns="budget"), "expected the columns image_id"),
        ("parts/lipschitz-l2/00000.parquet", lambda f: pd.concat([f, f.iloc[:1]]), "is there more than once"),
        ("parts/sanity/00000.statistics.parquet", lambda f: f.drop(columns="quantity"), "expected the columns method"),
        ("parts/repeat/00000.parquet", lambda f: f.assign(at=f["at"].map(repr)), "expected float64 in at, got"),
    ],
)
def test_columns_of_parts(
    honest: Run, tmp_path: Path, part: str, change: Callable[[pd.DataFrame], pd.DataFrame], line: str
) -> None:
    run = copied(honest, tmp_path / "run")
    rewritten(run.path / part, change)
    assert [found for found in said(check_parts, run) if line in found and part in found]


def test_one_image_on_both_sides_of_a_border(honest: Run, tmp_path: Path) -> None:
    run = copied(honest, tmp_path / "run")
    ids = sorted(run.table("images")["image_id"])
    for path in (run.path / "parts").rglob("*.parquet"):
        if "image_id" in read_frame(path):
            rewritten(path, lambda f: f.assign(image_id=f["image_id"].replace(ids[5], ids[4])))
    for path in (run.path / "witnesses").rglob("*.safetensors"):
        write_arrays(path, {k.replace(ids[5], ids[4]): v for k, v in read_arrays(path).items()})
    assert f"parts/clean: image_id {ids[4]} is there more than once" in said(check_parts, run)


@pytest.mark.parametrize("noted", [b"{", b"[]", b'{"seconds": NaN}', b'{"seconds": -1}', b"\xff"])
def test_costs_of_parts(honest: Run, tmp_path: Path, noted: bytes) -> None:
    path = copied(honest, tmp_path / "run").path / CLEAN_PART
    table = pq.read_table(path)
    pq.write_table(table.replace_schema_metadata({**table.schema.metadata, b"robusteval": noted}), path)
    with pytest.raises(UserError, match=f"expected a readable cost in .*{path.name}"):
        read_cost(path)


def raw(kind: str, size: int) -> Callable[[Path], None]:
    """Writes images of zeros in a type that numpy may not know."""

    def write(path: Path) -> None:
        names, length = list(read_arrays(path)), 64 * size
        head = {
            name: {"dtype": kind, "shape": [1, 8, 8], "data_offsets": [i * length, (i + 1) * length]}
            for i, name in enumerate(names)
        }
        text = json.dumps(head).encode()
        path.write_bytes(struct.pack("<Q", len(text)) + text + bytes(length * len(names)))

    return write


def stray(name: str, array: np.ndarray[Any, Any]) -> Callable[[Path], None]:
    return lambda path: write_arrays(path, read_arrays(path) | {name: array})


@pytest.mark.parametrize("file", [CLEAN_IMAGES, WITNESSES])
@pytest.mark.parametrize(
    ("write", "line"),
    [
        (raw("BF16", 2), "expected readable images in"),
        (raw("F8_E4M3", 1), "expected readable images in"),
        (raw("U16", 2), "got uint16 of (1, 8, 8)"),
        (stray("0.05/hidden", np.zeros((1, 8, 8), np.float16)), "0.05/hidden: expected float64"),
        (stray("0.05/hidden", np.zeros((1, 8, 9))), "0.05/hidden: expected float64 of shape (1, 8, 8), got"),
    ],
)
def test_arrays(honest: Run, tmp_path: Path, file: str, write: Callable[[Path], None], line: str) -> None:
    run = copied(honest, tmp_path / "run")
    write(run.path / file)
    assert [found for found in said(check_parts, run) if line in found and file in found]


@pytest.mark.parametrize("table", ["images", "witnesses", "certificates", "measurements", "statistics", "bounds"])
def test_an_index_of_a_table_hides_nothing(honest: Run, tmp_path: Path, table: str) -> None:
    run = copied(honest, tmp_path / "run")
    path = run.path / "tables" / f"{table}.parquet"
    rewritten(path, lambda f: f.set_index(pd.Index(range(len(f), 0, -1))), index=True)
    assert [line for line in said(check_tables, run) if f"{path}, got: an index among the columns" in line]


@pytest.mark.parametrize(
    "column", ["images.logit_margin", "certificates.radius", "bounds.upper_linf", "bounds.correct"]
)
def test_columns_of_tables_in_another_type(honest: Run, tmp_path: Path, column: str) -> None:
    run, (table, name) = copied(honest, tmp_path / "run"), column.split(".")
    rewritten(run.path / "tables" / f"{table}.parquet", lambda f: f.assign(**{name: f[name].map(repr)}))
    assert [line for line in said(check_tables, run) if f"tables/{table}.parquet: expected " in line and name in line]


@pytest.mark.parametrize("change", [lambda b: b.replace(b"\n", b"\x0c"), lambda b: b + b"\n", lambda b: b[:-1]])
def test_bytes_between_the_lines_of_the_csv(honest: Run, tmp_path: Path, change: Callable[[bytes], bytes]) -> None:
    run = copied(honest, tmp_path / "run")
    path = run.path / "tables" / "bounds.csv"
    path.write_bytes(change(path.read_bytes()))
    assert "tables/bounds.csv, line" in "".join(said(check_tables, run))


@pytest.mark.parametrize("name", ["report.html.tmp", "figures/x.tmp", "parts/clean/x.tmp", ".lock", "Proven 99 %/"])
def test_files_that_are_none_of_the_run(honest: Run, tmp_path: Path, name: str) -> None:
    run = copied(honest, tmp_path / "run")
    path = run.path / name
    path.parent.mkdir(exist_ok=True)
    if name.endswith("/"):
        path.mkdir()
    else:
        path.write_text("<h1>99 %</h1>")
    assert [line for line in said(check_files, run) if line.startswith(name)]


def test_what_a_killed_write_left_is_listed(honest: Run, tmp_path: Path) -> None:
    run = copied(honest, tmp_path / "run")
    (run.path / "report.html.123.tmp").write_text("x")
    (run.path / ".lock").write_text("123")
    assert said(check_files, run) == []
    assert [f for f in check_files(run) if f.kind == "unchecked" and f.line.startswith("report.html.123.tmp")]


def test_what_was_found_before_an_error_is_kept() -> None:
    def check(error: Exception) -> Iterator[Finding]:
        yield wrong("first")
        raise error

    lines = [f.line for f in contained("here", check(KeyError("x")))]
    assert lines == ["first", "here: cannot be checked: KeyError: 'x'"]
    assert [f.kind for f in contained("here", check(MemoryError()))] == ["wrong", "blocked"]


def test_a_method_that_raises_when_it_is_tried_again(
    honest: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Said to be unavailable, or done: its own error is a line, and the stages behind it are looked at."""
    from robusteval.auditing.stages.certificate import CertificateStage

    def boom(*given: object) -> None:
        raise RuntimeError("boom")

    monkeypatch.setattr(CertificateStage, "compute", boom)
    lines = [f.line for f in examine(honest, attacks=0) if f.kind == "wrong"]
    assert "stage lipschitz-l2: cannot be checked: RuntimeError: boom" in lines
    assert not [line for line in lines if "gaussian-noise" in line]
