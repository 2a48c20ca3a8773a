"""Files that are brought to the disk together."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from robusteval.results import atomic
from robusteval.results.atomic import Landing, NotWrittenError, atomically


@pytest.fixture
def flushed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of what was flushed so far."""
    names: list[str] = []
    monkeypatch.setattr(atomic, "_flush", lambda path, flags: names.append(path.name))
    return names


def write(folder: Path, landing: Landing, *names: str) -> None:
    for name in names:
        atomically(folder / name, lambda temporary: temporary.write_text("x"), landing)


def test_files_land_once_and_their_folder_with_them(tmp_path: Path, flushed: list[str]) -> None:
    landing = Landing()
    write(tmp_path / "part", landing, "a", "b", "c")
    assert sorted(os.listdir(tmp_path / "part")) == ["a", "b", "c"]
    assert flushed == []
    landing.land()
    landing.land()
    assert sorted(flushed[:3]) == ["a", "b", "c"]
    assert flushed[3:] == ["part"] * (os.name == "posix")


def test_between_two_landings_there_is_time(
    tmp_path: Path, flushed: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 100.0
    monkeypatch.setattr("robusteval.results.atomic.time.monotonic", lambda: now)
    landing = Landing()
    write(tmp_path, landing, "first")
    landing.land(every=1.0)
    assert "first" in flushed
    write(tmp_path, landing, "second", "third")
    now = 100.5
    landing.land(every=1.0)
    assert "second" not in flushed
    now = 101.0
    landing.land(every=1.0)
    assert {"second", "third"} <= {*flushed}


def test_a_file_that_was_removed_since_stops_nothing(tmp_path: Path) -> None:
    landing = Landing()
    write(tmp_path, landing, "a", "b")
    (tmp_path / "a").unlink()
    landing.land()


def test_what_the_disk_refuses_is_said_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, flags: int) -> None:
        raise OSError(28, "No space left on device")

    landing = Landing()
    write(tmp_path, landing, "a")
    monkeypatch.setattr(atomic, "_flush", full)
    with pytest.raises(NotWrittenError, match="a, got: No space left on device; what was computed is kept"):
        landing.land()
