"""Shards of several batches, and tables that are put together in pieces: the same numbers as with one of each."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from robusteval import Run, audit, open_checkpoint, read_images
from robusteval.auditing import hardware, session
from robusteval.auditing.hardware import Throughput
from robusteval.auditing.verify import examine_files, verify
from robusteval.results import tabulate
from robusteval.results.files import read_arrays, read_frame, write_frame
from robusteval.results.tables import TABLES

PROTOCOL = """
[budgets]
linf = ["8/255", 0.1]
[calibration]
delta = 0.25
[[attacks]]
method = "pgd"
norm = "linf"
steps = 5
[[attacks]]
method = "square"
norm = "linf"
queries = 30
[[attacks]]
method = "polish"
norm = "l2"
[[certificates]]
method = "l-bound"
norm = "l2"
batches = 20
[[certificates]]
method = "ibp"
norm = "linf"
[[metrics]]
method = "noise"
sigmas = [0.2]
samples = 2
[[metrics]]
method = "covariance"
witnesses = "pgd-linf"
"""
N, BATCH = 22, 4


@pytest.fixture(scope="module")
def audited(tmp_path_factory: pytest.TempPathFactory, demo_folder: Path) -> tuple[Run, Run]:
    """One batch a shard, and three."""
    folder = tmp_path_factory.mktemp("shards")
    (folder / "p.toml").write_text(PROTOCOL, encoding="utf-8")
    images = read_images("digits", N)
    model = open_checkpoint(demo_folder / "digits-standard.safetensors", "digits-cnn", input_shape=(1, 8, 8))
    one = audit(model, images, str(folder / "p.toml"), folder / "one", batch_size=BATCH, device="cpu")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(session, "best_throughput", lambda *_: Throughput(BATCH, 1e-6))
        patch.setattr(hardware, "_SHARDS", N / (3 * BATCH))
        several = audit(model, images, str(folder / "p.toml"), folder / "several", device="cpu")
    return one, several


def differing(one: Run, other: Run) -> list[str]:
    return [name for name in TABLES if not one.table(name).equals(other.table(name))]


def kept(run: Run, stage: str) -> dict[str, np.ndarray]:
    return {k: a for path in (run.path / "witnesses" / stage).iterdir() for k, a in read_arrays(path).items()}


def test_shards_of_several_batches_hold_what_shards_of_one_do(audited: tuple[Run, Run]) -> None:
    one, several = audited
    assert (one.manifest.batch_size, one.manifest.batches, several.manifest.batches) == (BATCH, 1, 3)
    assert len(list((one.path / "witnesses" / "clean").iterdir())) == 6
    assert len(list((several.path / "witnesses" / "clean").iterdir())) == 2
    assert differing(one, several) == []
    for stage in ("clean", "pgd-linf", "polish-l2"):
        theirs = kept(several, stage)
        assert theirs
        assert all(np.array_equal(theirs[name], array) for name, array in kept(one, stage).items())
        assert theirs.keys() == kept(one, stage).keys()
    parts = [read_frame(path) for run in audited for path in (run.path / "parts").rglob("*.parquet")]
    assert all(part["image_id"].is_monotonic_increasing for part in parts if "image_id" in part)
    costs = [[(s.cost.forwards, s.cost.backwards) for s in run.manifest.stages] for run in audited]
    assert np.allclose(costs[0], costs[1], rtol=1e-12)
    assert list(verify(several)) == []


class Noisy(nn.Module):
    """Answers and gradients that are random, and the same again for the same seed."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(64, 10)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        x = pixels.flatten(1)
        answers: torch.Tensor = self.linear(x * (torch.rand_like(x) > 0.3))
        return answers


def test_a_random_model_draws_the_same_numbers_in_any_shard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    protocol = tmp_path / "p.toml"
    protocol.write_text(
        'budgets = {linf = [0.1]}\nattacks = [{method = "pgd", norm = "linf", steps = 3}]', encoding="utf-8"
    )
    torch.manual_seed(0)
    model, images = Noisy(), read_images("digits", N)
    one = audit(model, images, str(protocol), tmp_path / "one", batch_size=BATCH, device="cpu")
    monkeypatch.setattr(session, "best_throughput", lambda *_: Throughput(BATCH, 1e-6))
    monkeypatch.setattr(hardware, "_SHARDS", N / (3 * BATCH))
    several = audit(model, images, str(protocol), tmp_path / "several", device="cpu")
    assert several.manifest.batches == 3
    assert differing(one, several) == []


def test_how_many_batches_make_a_shard() -> None:
    assert Throughput(64, 1e-3).batches(10**6) == 3  # a fifth of a second
    assert Throughput(64, 1e-9).batches(10**6) == 10**6 // 32 // 64
    assert Throughput(64, 1e-9).batches(500) == 1
    assert Throughput(64, 10.0).batches(10**6) == 1


@pytest.mark.parametrize("at_once", [1, 8, 13])
def test_tables_in_pieces_are_those_in_one(
    audited: tuple[Run, Run], at_once: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, _ = audited
    whole = {name: one.table(name) for name in TABLES}
    csv = tabulate.bounds_csv(one).read_bytes()
    written = {p: p.read_bytes() for p in (one.path / "tables").iterdir()}
    monkeypatch.setattr(tabulate, "AT_ONCE", at_once)
    try:
        tabulate.write_tables(one)
        for name, table in whole.items():
            pd.testing.assert_frame_equal(read_frame(one.path / "tables" / f"{name}.parquet"), table)
        assert tabulate.bounds_csv(one).read_bytes() == csv
        assert tabulate.refuted(one) == []
        # A table is held against the parts in whatever pieces it lies there.
        assert [f.line for f in examine_files(one) if f.kind == "wrong"] == []
    finally:
        for path, content in written.items():
            path.write_bytes(content)


@pytest.mark.parametrize("at_once", [4, 10_000])
def test_a_row_that_was_changed_or_left_out_is_named_in_any_piece(
    audited: tuple[Run, Run], at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, _ = audited
    monkeypatch.setattr(tabulate, "AT_ONCE", at_once)
    path = one.path / "tables" / "images.parquet"
    before, rows = path.read_bytes(), one.table("images")
    for forged, said in (
        (
            rows.assign(label=rows["label"].where(rows.index != 17, 99)),
            f"table images, row 17 (image_id {rows['image_id'][17]})",
        ),
        (rows.drop(index=5), f"table images: expected ({N}, 6) rows and columns, got ({N - 1}, 6)"),
        (pd.concat([rows, rows.tail(1)]), f"table images: expected ({N}, 6) rows and columns, got ({N + 1}, 6)"),
        (rows.drop(columns="label"), "tables/images.parquet: expected the columns image_id, label"),
    ):
        write_frame(path, forged)
        lines = [f.line for f in examine_files(one) if f.kind == "wrong"]
        path.write_bytes(before)
        assert len(lines) == 1
        assert lines[0].startswith(said)


def test_an_audit_goes_on_with_its_shards(audited: tuple[Run, Run], demo_folder: Path, tmp_path: Path) -> None:
    _, several = audited

    copy = tmp_path / "copy"
    shutil.copytree(several.path, copy)
    (copy / "parts" / "pgd-linf" / "00001.parquet").unlink()
    model = open_checkpoint(demo_folder / "digits-standard.safetensors", "digits-cnn", input_shape=(1, 8, 8))
    protocol = several.path.parent / "p.toml"
    again = audit(model, read_images("digits", N), str(protocol), copy, device="cpu")
    assert again.manifest.batches == 3
    assert differing(several, again) == []
