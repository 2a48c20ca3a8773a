"""robusteval.toml, --version and -h: what stands beside every command."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path

import pytest

from commands import here


def test_options_of_the_file_hold_where_the_command_line_says_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("robusteval.toml").write_text('[audit]\ndata = "nowhere"\nout = "run"\nbatch-size = "7"\n')
    assert "got 'nowhere'" in here("audit", "a.pt").stderr
    assert "got 'elsewhere'" in here("audit", "a.pt", "--data", "elsewhere").stderr


def test_a_plan_takes_what_the_audit_takes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("robusteval.toml").write_text('[audit]\ndata = "nowhere"\nout = "run"\nstrict = true\n')
    assert "got 'nowhere'" in here("plan", "a.pt").stderr
    Path("robusteval.toml").write_text('[audit]\ndata = "nowhere"\n[plan]\ndata = "elsewhere"\n')
    assert "got 'elsewhere'" in here("plan", "a.pt").stderr
    assert "got 'nowhere'" in here("audit", "a.pt", "--out", "run").stderr


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[audits]", "expected tables of commands in robusteval.toml, got 'audits' (did you mean 'audit'?)"),
        ("limit = 3", "expected tables of commands in robusteval.toml, got 'limit'"),
        ("[audit]\nlimits = 3", "expected an option of audit in robusteval.toml, got 'limits' (did you mean 'limit'?)"),
        ("[audit]\ncheckpoints = 'a'", "expected an option of audit in robusteval.toml, got 'checkpoints'"),
        ("[audit", "expected a TOML file in robusteval.toml"),
    ],
)
def test_a_mistake_names_the_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, said: str) -> None:
    monkeypatch.chdir(tmp_path)
    Path("robusteval.toml").write_text(text)
    done = here("list", "data")
    assert (done.returncode, said in done.stderr) == (2, True), done.stderr


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("audit.arch", "evil.py:build"),
        ("audit.arch", "EVIL.PY:build"),
        ("audit.source-arch", "evil.py:build"),
        ("audit.protocol", "evil.toml"),
        ("audit.trust", ["net.pt2"]),
        ("verify.trust", ["evil.py"]),
        ("verify.arch", "evil.py:build"),
        ("verify.sign", "key"),
        ("verify.allowed-signers", "mine"),
        ("audit.address", "10.0.0.1:6379"),
    ],
)
def test_the_file_permits_no_program(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, key: str, value: str | list[str]
) -> None:
    """It lies in the working directory, which may be somebody else's."""
    monkeypatch.chdir(tmp_path)
    command, option = key.split(".")
    Path("robusteval.toml").write_text(f"[{command}]\n{option} = {value!r}\n")
    done = here("list", "data")
    assert (done.returncode, f"expected {key} on the command line" in done.stderr) == (2, True), done.stderr


def test_version_and_help() -> None:
    assert here("--version").stdout.strip() == f"robusteval {version('robusteval')}"
    for command in ((), ("audit",), ("verify",)):
        assert here(*command, "-h").stdout == here(*command, "--help").stdout
