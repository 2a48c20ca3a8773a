"""Runs at URLs: what is brought, what is put in which order, who is refused, and what a failing store takes."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from fsspec.implementations.memory import MemoryFileSystem

import robusteval as rv
from commands import here
from robusteval import Images, Run, UserError, run_audit
from robusteval.auditing.together import audit_together
from robusteval.core.progress import Silent
from robusteval.models.making import make_classifier
from robusteval.results.atomic import NotWrittenError, tell
from robusteval.results.below import write_below
from robusteval.results.files import read_beside
from robusteval.results.lock import LOCK
from robusteval.results.owner import owning
from robusteval.results.places import working_at
from robusteval.results.remote import Remote

URL = "memory://runs/mine"
FGSM = '[[attacks]]\nmethod = "fgsm"\nnorm = "linf"\n'
NOISE = '[[attacks]]\nmethod = "uniform-noise"\nnorm = "linf"\nsamples = 3\n'
PROTOCOL = f'[budgets]\nlinf = [0.1]\n{FGSM}{NOISE}[[certificates]]\nmethod = "ibp"\nnorm = "linf"\n'


@pytest.fixture(autouse=True)
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[MemoryFileSystem]:
    """An empty store in memory, and a cache directory of this test."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "small.toml").write_text(PROTOCOL)
    MemoryFileSystem.store.clear()
    yield MemoryFileSystem()
    MemoryFileSystem.store.clear()


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """From now on as on another machine: nothing is in the cache directory."""
    return lambda: monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "another" / "cache"))


def audit(folder: Path, out: str | Path, seed: int = 0, **options: Any) -> Run:
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(16, 3))
    pixels = torch.rand(6, 1, 4, 4)
    images = Images(tuple("abcdef"), pixels, network(pixels).argmax(1), source="made")
    model = make_classifier("linear", network, (1, 4, 4))
    return run_audit(model, images, str(folder / "small.toml"), out, batch_size=2, seed=seed, **options)


def names(root: str = "/runs/mine") -> set[str]:
    return {path.removeprefix(f"{root}/") for path in MemoryFileSystem.store if path.startswith(f"{root}/")}


def content(name: str) -> bytes:
    return bytes(MemoryFileSystem.store[f"/runs/mine/{name}"].getvalue())


def same(one: Run, other: Run) -> bool:
    frames: list[tuple[pd.DataFrame, pd.DataFrame]] = [
        (one.table(name), other.table(name)) for name in ("bounds", "witnesses", "certificates", "images")
    ]
    return all(left.equals(right) for left, right in frames)


def test_a_run_at_a_url_is_the_run_and_its_files_are_all_there(tmp_path: Path, elsewhere: Callable[[], None]) -> None:
    local, run = audit(tmp_path, tmp_path / "local"), audit(tmp_path, URL)
    assert same(local, run)
    here_too = {p.relative_to(local.path).as_posix() for p in local.path.rglob("*") if p.is_file()}
    assert names() == here_too, "all files, and no lock"
    elsewhere()
    opened = Run.open(URL)
    assert opened.path != run.path
    assert opened.manifest == run.manifest
    assert same(opened, local)
    parts = {name: content(name) for name in names() if name != "manifest.json"}
    assert same(audit(tmp_path, URL), local)
    assert {name: content(name) for name in parts if "tables/" not in name} == {
        name: value for name, value in parts.items() if "tables/" not in name
    }, "nothing is computed again"


def test_images_that_only_later_stages_needed_are_removed_there_too(tmp_path: Path) -> None:
    polish = '[[attacks]]\nmethod = "polish"\nnorm = "linf"\n'
    (tmp_path / "small.toml").write_text(f"[budgets]\nlinf = [0.5]\n{FGSM}{polish}", encoding="utf-8")
    seen: set[str] = set()

    class Looking(Silent):
        def stage(self, name: str, done: int, total: int) -> None:
            seen.update(names())

    run = audit(tmp_path, URL, evidence="none", progress=Looking())
    assert run.manifest.complete
    assert any(name.startswith("needed/fgsm") for name in seen)
    assert not [name for name in names() if name.startswith(("needed/", "witnesses/"))]


def test_several_models_lie_below_one_url(tmp_path: Path, elsewhere: Callable[[], None]) -> None:
    torch.manual_seed(0)
    networks = [torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(16, 3)) for _ in range(2)]
    pixels = torch.rand(4, 1, 4, 4)
    images = Images(tuple("abcd"), pixels, networks[0](pixels).argmax(1), source="made")
    models = [make_classifier(f"m{i}", network, (1, 4, 4)) for i, network in enumerate(networks)]
    runs = audit_together(models, images, str(tmp_path / "small.toml"), URL, batch_size=2)
    assert {"m0/manifest.json", "m1/tables/bounds.csv"} <= names()
    elsewhere()
    assert same(Run.open(f"{URL}/m1"), runs[1])


def test_at_no_time_a_main_part_lies_there_without_the_files_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put, order = MemoryFileSystem.put_file, []

    def looked(self: Any, path: str, name: str, **options: Any) -> None:
        put(self, path, name, **options)
        own = name.removeprefix("/runs/mine/")
        order.append(own)
        if own.startswith("parts/") and own.count(".") == 1:
            assert set(read_beside(Path(path)) or ()) <= names()

    monkeypatch.setattr(MemoryFileSystem, "put_file", looked)
    run = audit(tmp_path, URL)
    assert order[0] == order[-1] == "manifest.json"
    assert {name for name in order if name.startswith("parts/")} >= {"parts/fgsm-linf/00002.parquet"}
    assert run.manifest.complete


def test_what_was_removed_and_written_again_is_removed_there_first(monkeypatch: pytest.MonkeyPatch) -> None:
    put, remove = MemoryFileSystem.put_file, MemoryFileSystem.rm_file
    order: list[str] = []

    def putting(self: Any, path: str, name: str, **options: Any) -> None:
        order.append(f"put {name.removeprefix('/runs/mine/')}")
        time.sleep(0.2)
        put(self, path, name, **options)

    def removing(self: Any, path: str) -> None:
        order.append(f"remove {path.removeprefix('/runs/mine/')}")
        remove(self, path)

    monkeypatch.setattr(MemoryFileSystem, "put_file", putting)
    monkeypatch.setattr(MemoryFileSystem, "rm_file", removing)
    with working_at(URL) as folder:
        main = write_below(folder, "parts/a/00000.parquet", "old")
        until(lambda: "parts/a/00000.parquet" in names())
        write_below(folder, "tables/slow.csv", "keeps the other from being put at once")
        until(lambda: "put tables/slow.csv" in order)
        main.unlink()
        tell(main)
        write_below(folder, "parts/b/00000.parquet", "what that rests on")
        write_below(folder, "parts/a/00000.parquet", "new")
    at = {what: i for i, what in enumerate(order)}
    assert at["remove parts/a/00000.parquet"] < at["put parts/b/00000.parquet"]
    assert order.count("put parts/a/00000.parquet") == 2
    assert content("parts/a/00000.parquet") == b"new"


@pytest.mark.parametrize("after", [0, 1, 7, 20])
def test_a_store_that_fails_takes_nothing_and_the_same_command_puts_the_rest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    put, count = MemoryFileSystem.put_file, 0

    def fails(self: Any, path: str, name: str, **options: Any) -> None:
        nonlocal count
        count += 1
        if count > after:
            raise OSError(101, "Network is unreachable")
        put(self, path, name, **options)

    with monkeypatch.context() as patch:
        patch.setattr(MemoryFileSystem, "put_file", fails)
        with pytest.raises(NotWrittenError, match=f"expected to write {URL}/.*, got: Network is unreachable") as found:
            audit(tmp_path, URL)
    kept = next((tmp_path / "cache").rglob("manifest.json")).parent
    assert f"is kept in {kept}, and the same command pushes the rest" in str(found.value)
    assert "\n" not in str(found.value)
    there = {name: content(name) for name in names() if name.startswith("parts/")}
    before = {p: p.read_bytes() for p in (kept / "parts").rglob("*.parquet")}
    run = audit(tmp_path, URL)
    assert same(run, audit(tmp_path, tmp_path / "local"))
    assert {name: content(name) for name in there} == there
    assert {p: p.read_bytes() for p in before} == before, "what was computed here is not computed again"


def test_a_damaged_part_is_removed_there_and_computed_again(
    tmp_path: Path, elsewhere: Callable[[], None], store: MemoryFileSystem
) -> None:
    run = audit(tmp_path, URL)
    part = "parts/fgsm-linf/00001.parquet"
    store.pipe_file(f"/runs/mine/{part}", content(part)[:100])
    store.rm_file("/runs/mine/witnesses/uniform-noise-linf/00000.safetensors")
    elsewhere()
    again = audit(tmp_path, URL)
    assert same(again, run)
    assert len(content(part)) > 100
    assert (again.path / part).read_bytes() == content(part)
    assert "witnesses/uniform-noise-linf/00000.safetensors" in names()


def locked_by(store: MemoryFileSystem, age: float, **card: Any) -> None:
    last = (datetime.now(UTC) - timedelta(seconds=age)).isoformat(timespec="seconds")
    owner = {"id": "x", "host": "node-7", "machine": "node-7 1", "folder": "/c", "process": 31, "time": last}
    store.pipe_file(f"/runs/mine/{LOCK}", json.dumps(owner | card).encode())


def test_another_process_at_the_url_is_refused_until_it_gives_no_sign_of_life(
    tmp_path: Path, store: MemoryFileSystem
) -> None:
    locked_by(store, 5)
    before = content(LOCK)
    said = f"expected {URL} for this command alone, got another that is at work there .process 31 on node-7, last sign"
    with pytest.raises(UserError, match=said) as found:
        audit(tmp_path, URL)
    assert f"remove {URL}/{LOCK}" in str(found.value)
    assert names() == {LOCK}
    assert content(LOCK) == before
    locked_by(store, 601)
    assert audit(tmp_path, URL).manifest.complete
    assert LOCK not in names()


def test_a_lock_that_is_no_card_is_of_somebody(tmp_path: Path, store: MemoryFileSystem) -> None:
    for text in (b"", b"[]", b"\xff", b'{"time": 3}'):
        store.pipe_file(f"/runs/mine/{LOCK}", text)
        with pytest.raises(UserError, match="process unknown on an unknown machine"):
            audit(tmp_path, URL)


def test_an_owner_gives_signs_of_life_and_notices_that_another_took_over(
    tmp_path: Path, store: MemoryFileSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("robusteval.results.owner.EVERY", 0.01)
    with owning(Remote(URL, tmp_path), tmp_path) as owner:
        first = store.modified(f"/runs/mine/{LOCK}")
        until(lambda: store.modified(f"/runs/mine/{LOCK}") > first)
        MemoryFileSystem.store.pop(f"/runs/mine/{LOCK}")
        until(lambda: LOCK in names())
        assert not owner.lost
        locked_by(store, 0)
        until(lambda: owner.lost)
        assert "process 31 on node-7" in owner.lost
    assert json.loads(content(LOCK))["host"] == "node-7", "that of the other stays"


def test_an_audit_whose_url_another_took_over_stops(
    tmp_path: Path, store: MemoryFileSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("robusteval.results.owner.EVERY", 0.01)
    taken: set[str] = set()

    class Taking(Silent):
        def stage(self, title: str, done: int, total: int) -> None:
            if title == "ibp-linf":
                locked_by(store, 0)
                time.sleep(0.3)
                taken.update(names())

    with pytest.raises(UserError, match="got another that is at work there"):
        audit(tmp_path, URL, progress=Taking())
    assert taken == names(), "nothing is put where another is at work"


def until(true: Callable[[], object]) -> None:
    end = time.monotonic() + 30
    while not true():
        assert time.monotonic() < end
        time.sleep(0.005)


def test_nothing_but_files_of_a_run_is_brought(
    tmp_path: Path, elsewhere: Callable[[], None], store: MemoryFileSystem
) -> None:
    run = audit(tmp_path, URL)
    evil = ("../x.json", "../../x.json", "parts/../../x.json", "/x.json", "..\\x.json", "C:\\x.json", "a\0b.json")
    for name in (*evil, "parts/x.py", ".netrc", "a/b/c/d/e/f/g.json", "figures/con.csv", f"{'n' * 200}.json"):
        MemoryFileSystem.store[f"/runs/mine/{name}"] = MemoryFileSystem.store["/runs/mine/manifest.json"]
    elsewhere()
    opened = Run.open(URL)
    found = {p.relative_to(opened.path).as_posix() for p in opened.path.rglob("*") if p.is_file()}
    assert found == {p.relative_to(run.path).as_posix() for p in run.path.rglob("*") if p.is_file()}
    assert not list((tmp_path / "another").rglob("x.json"))


def test_another_run_at_the_url_takes_no_part_of_the_one_that_was_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, elsewhere: Callable[[], None]
) -> None:
    first = audit(tmp_path, URL)
    (first.path / "parts" / "fgsm-linf" / "00009.parquet").write_bytes(b"never put")
    MemoryFileSystem.store.clear()
    with pytest.raises(UserError, match=f"expected at {URL} the run that was there, got nothing; its copy is in"):
        audit(tmp_path, URL)
    with monkeypatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path / "third"))
        other = audit(tmp_path, URL, seed=1)
    assert Run.open(URL).manifest == other.manifest
    with pytest.raises(UserError, match="expected the seed of the run"):
        audit(tmp_path, URL)
    again = audit(tmp_path, URL, seed=1)
    assert again.path == first.path
    assert same(again, other)
    assert not (first.path / "parts" / "fgsm-linf" / "00009.parquet").exists()
    assert "parts/fgsm-linf/00009.parquet" not in names()


def test_commands_take_a_url(tmp_path: Path, demo_folder: Path, elsewhere: Callable[[], None]) -> None:
    (tmp_path / "small.toml").write_text(f"[budgets]\nlinf = [0.1]\n{FGSM}")
    model = demo_folder / "digits-standard.safetensors"
    asked = ("--arch", "digits-cnn", "--data", "digits", "--limit", "6", "--protocol", tmp_path / "small.toml")
    done = here("audit", model, *asked, "--out", URL)
    assert done.returncode == 0, done.stderr
    assert f"At {URL}" in done.stdout
    page = content("report.html")
    MemoryFileSystem().rm_file("/runs/mine/report.html")
    elsewhere()
    assert here("report", URL).returncode == 0
    assert content("report.html") == page
    done = here("verify", URL)
    assert done.returncode == 0, done.stdout + done.stderr
    assert here("leaderboard", URL, "--out", tmp_path / "board").returncode == 0
    assert here("leaderboard", "memory://runs", "--out", tmp_path / "board").returncode == 0
    assert LOCK not in names()


def test_mistakes_are_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, store: MemoryFileSystem) -> None:
    monkeypatch.setitem(sys.modules, "s3fs", None)
    store.pipe_file("/else/data.csv", b"1\n")
    for url, said in (
        ("s3://b/run", "expected the package s3fs for s3://b/run, got none: pip install 'robusteval[s3]'"),
        ("nothing://b/run", "expected a URL that fsspec opens, got nothing://b/run: Protocol not known"),
        ("memory://nowhere", "expected a run at memory://nowhere, got none"),
        ("memory://", "expected a URL with a place in it"),
        ("memory://else", "expected a run, or a place that is free, at memory://else, which holds other things"),
    ):
        done = here("report", url) if url != "memory://nowhere" else here("verify", url)
        assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
        assert said in done.stderr
    assert here("report", "memory://free").returncode == 2


def test_a_url_that_was_made_a_path_is_refused(tmp_path: Path) -> None:
    for wrong in (Path("s3://bucket/run"), Path("memory://runs/mine")):
        with pytest.raises(UserError, match="expected a URL as text, or a path, got the Path"):
            audit(tmp_path, wrong)


def test_a_url_of_files_is_the_path(tmp_path: Path) -> None:
    run = audit(tmp_path, (tmp_path / "local").as_uri())
    assert run.path == tmp_path / "local"
    assert rv.Run.open(run.path.as_uri()).manifest == run.manifest
    assert not (tmp_path / "cache" / "robusteval" / "runs").exists()
