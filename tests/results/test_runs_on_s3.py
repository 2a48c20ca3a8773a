"""Runs in a bucket of a real S3 server, moto's in a process of its own: killed, continued from the URL, refused."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fsspec import filesystem

from commands import ROOT, WIDE, here, in_a_process
from robusteval import Run
from robusteval.results.remote import Remote
from same_runs import differences

for package in ("s3fs", "moto", "flask_cors"):
    pytest.importorskip(package, reason="runs in a bucket need s3fs and moto[server]: make extras")

URL = "s3://bucket/run"
PROTOCOL = """
[budgets]
linf = [0.1]
[[attacks]]
method = "pgd"
norm = "linf"
steps = 300
[[attacks]]
method = "uniform-noise"
norm = "linf"
samples = 20
"""


@pytest.fixture(scope="module")
def server() -> Iterator[subprocess.Popen[bytes]]:
    """An S3 server on this machine, whose address is in the environment; with one empty bucket."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{port}")
        patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            patch.setenv(name, "testing")
        try:
            _wait_until_it_answers(port)
            _system().mkdir("bucket")
            yield process
        finally:
            process.kill()
            process.wait()


def _wait_until_it_answers(port: int) -> None:
    end = time.monotonic() + 60
    while time.monotonic() < end:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            time.sleep(0.1)
    pytest.fail("expected an S3 server that answers within a minute")


def _system() -> Any:
    return filesystem("s3", use_listings_cache=False, skip_instance_cache=True)


@pytest.fixture
def asked(tmp_path: Path, demo_folder: Path, monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """The words of an audit, without the place."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "here"))
    (tmp_path / "small.toml").write_text(PROTOCOL)
    model = demo_folder / "digits-pgd-linf.safetensors"
    words = ["audit", model, "--arch", "digits-cnn", "--data", "digits", "--limit", 24, "--batch-size", 2]
    return [*words, "--protocol", tmp_path / "small.toml", "--out"]


def mains() -> dict[str, str]:
    """The main parts in the bucket, each with what changes when it is put again."""
    found = Remote(URL, Path()).files()
    return {name: file.tag for name, file in found.items() if name.startswith("parts/") and name.count(".") == 1}


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="SIGSTOP is of POSIX")
def test_a_killed_audit_continues_elsewhere_from_the_url_alone(
    server: object, asked: list[object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = [sys.executable, "-m", "robusteval", *map(str, asked), URL]
    environment = os.environ | WIDE | {"PYTHONPATH": str(ROOT)}
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with subprocess.Popen(command, env=environment, **quiet) as first:  # type: ignore[call-overload]
        while len([name for name in mains() if "pgd" in name]) < 4:
            assert first.poll() is None, "it is killed in the middle, not at its end"
            time.sleep(0.05)
        first.send_signal(signal.SIGSTOP)
        same_machine = here(*asked, URL)
        assert (same_machine.returncode, same_machine.stderr.count("error:")) == (2, 1)
        assert f"process {first.pid}" in same_machine.stderr
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "there"))
        refused = here(*asked, URL)
        assert refused.returncode == 2
        assert f"got another that is at work there (process {first.pid} on {socket.gethostname()}" in refused.stderr
        first.kill()
    system, kept = _system(), mains()
    assert len(kept) >= 6
    # As it will be ten minutes later.
    lock = json.loads(system.cat_file("bucket/run/.lock"))
    system.pipe_file("bucket/run/.lock", json.dumps(lock | {"time": "2020-01-01T00:00:00+00:00"}).encode())
    done = in_a_process(*asked, URL)
    assert done.returncode == 0, done.stderr
    assert kept.items() <= mains().items(), "what was in the bucket was computed again"
    assert not system.exists("bucket/run/.lock")
    local = here(*asked, tmp_path / "local")
    assert local.returncode == 0, local.stderr
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "reader"))
    assert differences(Run.open(tmp_path / "local"), Run.open(URL)) == []
    verified = here("verify", URL)
    assert verified.returncode == 0, verified.stdout + verified.stderr
    system.rm_file("bucket/run/report.html")
    assert here("report", URL).returncode == 0
    assert system.exists("bucket/run/report.html")


def test_a_hostile_name_in_a_bucket_is_not_written(
    server: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from run_fixture import build_run

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    run, system = build_run(tmp_path / "made"), _system()
    for path in run.path.rglob("*"):
        if path.is_file():
            system.put_file(str(path), f"bucket/made/{path.relative_to(run.path).as_posix()}")
    for name in ("../x.json", "parts/../../../x.json", "/x.json", "..\\x.json"):
        system.pipe_file(f"bucket/made/{name}", b"{}")
    assert sum("x.json" in name for name in system.find("bucket")) == 4
    opened = Run.open("s3://bucket/made")
    assert opened.manifest == run.manifest
    assert not list((tmp_path / "cache").rglob("*x.json"))


@pytest.mark.slow
def test_what_a_store_refuses_is_one_line(server: object, asked: list[object], monkeypatch: pytest.MonkeyPatch) -> None:
    done = in_a_process(*asked, "s3://missing/run")
    assert (done.returncode, done.stderr.count("error:"), "Traceback" in done.stderr) == (2, 1, False)
    assert "expected to write s3://missing/run/.lock, got: The specified bucket does not exist" in done.stderr
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", os.devnull)
    done = in_a_process("report", URL)
    assert done.returncode == 2
    assert "expected to read s3://bucket/run, got: Unable to locate credentials" in done.stderr
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    done = in_a_process("report", URL)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "expected to read s3://bucket/run, got: Could not connect to the endpoint URL" in done.stderr
