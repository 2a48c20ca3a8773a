"""VNN-LIB files that want time, memory or another file: read or refused in a line, in a watched process."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from confining import Action, confined_each
from robusteval.core.errors import UserError
from robusteval.data.vnnlib import read_property

BOX = "(declare-const X_0 Real) (assert (and (>= X_0 0.1) (<= X_0 0.2))) "
GOOD = BOX + "(assert (>= Y_0 Y_1))"
FILES: dict[str, bytes] = {
    "brackets": b"(" * 10**6,
    "closed brackets": b")" * 10**6,
    "pairs": b"()" * 10**6,
    "nested and": f"{BOX}(assert {'(and ' * 5000}(>= Y_0 Y_1){')' * 5000})".encode(),
    "choices of choices": f"{BOX}(assert (and {'(or (>= Y_0 Y_1) (>= Y_2 Y_1)) ' * 60}))".encode(),
    "place": f"(declare-const X_9 Real) (assert (>= X_{'9' * 5000} 0)) (assert (>= Y_0 Y_1))".encode(),
    "far place": b"(declare-const X_999999999999 Real) (assert (>= X_999999999999 0)) (assert (>= Y_0 Y_1))",
    "digits": f"{BOX}(assert (<= X_0 {'9' * 10**6}))".encode(),
    "exponent": f"{BOX}(assert (<= X_0 1e999999999))".encode(),
    "other digits": GOOD.replace("X_0", "X_\u0660").encode(),
    "output": f"{BOX}(assert (>= Y_{'9' * 5000} Y_1))".encode(),
    "words": b"\xff\xfe(\0a\0s\0s\0e\0r\0t",
    "escapes": f"{BOX}(assert (\x1b[2J Y_0 Y_1))".encode(),
    "comment": b";" * 10**6,
    "code": b"(assert (__import__('os').system 'touch canary'))",
    "long": GOOD.encode() + b" " * 2**24,
    "empty": b"",
}
SPECIAL: dict[str, Callable[[Path], object]] = {
    "FIFO": os.mkfifo,
    "device": lambda path: path.symlink_to("/dev/zero"),
    "circle": lambda path: path.symlink_to(path.name),
    "folder": os.mkdir,
    "nowhere": lambda path: path.symlink_to("none"),
}


def action_for(path: Path) -> Action:
    def action() -> int:
        try:
            read_property(path).images((1, 1, 1))
        except UserError as error:
            print(f"error: {error}")
            return 2
        return 0

    return action


@pytest.mark.parametrize("kind", ["files", "no files"])
def test_properties_of_strangers_are_refused_in_a_line(kind: str, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    actions = {}
    places = {name: tmp_path / f"{i}.vnnlib" for i, name in enumerate(FILES if kind == "files" else SPECIAL)}
    for name, path in places.items():
        _ = path.write_bytes(FILES[name]) if kind == "files" else SPECIAL[name](path)
        actions[name] = action_for(path)
    for name, found in confined_each(actions, tmp_path / "out").items():
        lines = found.output.strip().splitlines()
        assert found.clean, (name, found)
        assert found.code == 2, (name, found)
        assert len(lines) == 1, (name, found)
        assert lines[0].startswith("error: expected "), (name, found)
        assert "\x1b" not in lines[0], name


def test_what_they_are_made_of_is_read(tmp_path: Path) -> None:
    (tmp_path / "good.vnnlib").write_text(GOOD)
    assert read_property(tmp_path / "good.vnnlib").label == 1
