"""Methods in a file of the user: a protocol names FILE.py:Class, and only who trusts the file runs it."""

from __future__ import annotations

from pathlib import Path

import pytest

from robusteval.attacks import ATTACKS
from robusteval.auditing.protocol import Protocol, parse_protocol, read_protocol
from robusteval.core.errors import UserError
from robusteval.core.registry import Origin

ATTACK = """
from robusteval.attacks.base import Candidates, FixedBudgetAttack

class Grey(FixedBudgetAttack):
    \"\"\"Towards grey.\"\"\"
    name = "grey"
    title = "Grey"
    summary = "towards grey"
    strength: float = 1.0

    def within(self, classifier, images, budget, streams):
        return Candidates(images.pixels)

class Untitled(FixedBudgetAttack):
    name = "untitled"
    summary = "no title"
    def within(self, classifier, images, budget, streams):
        return Candidates(images.pixels)

class Unfinished(FixedBudgetAttack):
    name = "unfinished"
    title = "Unfinished"
    summary = "no within"

class Thief(Grey):
    name = "pgd"

class Plain:
    pass
"""


def written(folder: Path, code: str = ATTACK, method: str = "grey.py:Grey", more: str = "") -> Path:
    """A protocol in a folder, and beside it the file that it names."""
    (folder / "grey.py").write_text(code)
    path = folder / "mine.toml"
    path.write_text(f'[budgets]\nlinf = [0.1]\n\n[[attacks]]\nmethod = "{method}"\nnorm = "linf"\n{more}\n')
    return path


def read(folder: Path, code: str = ATTACK, method: str = "grey.py:Grey", more: str = "") -> Protocol:
    return read_protocol(str(written(folder, code, method, more)))


def test_a_protocol_names_a_class_in_a_file_beside_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    protocol = read(tmp_path, more="strength = 0.5")
    (entry,) = protocol.attacks
    assert entry.label == "grey-linf"
    assert entry.method.heading() == "Grey, Linf"
    assert entry.method.model_dump()["strength"] == 0.5
    assert entry.budgets == (0.1,)
    assert entry.origin.reference == f"{tmp_path / 'grey.py'}:Grey"
    assert entry.origin.package == "grey.py"
    assert len(entry.origin.version) == len("sha256:") + 16
    assert "grey" not in ATTACKS
    monkeypatch.chdir(tmp_path.parent)
    assert read_protocol(str(tmp_path / "mine.toml")) == protocol


def test_files_of_one_name_in_two_folders_are_two_files(tmp_path: Path) -> None:
    for folder, title in (("a", "Light grey"), ("b", "Dark grey")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "grey.py").write_text(ATTACK.replace('"Grey"', f'"{title}"'))
    entries = [
        f'[[attacks]]\nmethod = "{f}/grey.py:Grey"\nname = "{f}"\nnorm = "linf"\nbudgets = [0.1]\n' for f in "ab"
    ]
    (tmp_path / "two.toml").write_text("".join(entries))
    first, second = read_protocol(str(tmp_path / "two.toml")).attacks
    assert (first.method.title, second.method.title) == ("Light grey", "Dark grey")


def test_what_ships_says_that_it_is_of_this_package() -> None:
    (entry, *_) = read_protocol("quick").attacks
    assert entry.origin == ATTACKS.origin(entry.method.name)
    assert entry.origin.package == "robusteval"
    assert "origin" not in entry.spec


def test_a_manifest_is_no_permission(tmp_path: Path) -> None:
    """Nothing of the file runs, wherever the manifest says that it lies."""
    marker = tmp_path / "ran"
    protocol = read(tmp_path)
    (tmp_path / "evil.py").write_text(f"open({str(marker)!r}, 'w')\n")
    for method in ("evil.py:Grey", f"{tmp_path}/evil.py:Grey"):
        data = protocol.as_json()
        data["attacks"][0]["method"] = method
        with pytest.raises(UserError, match=r"manifest\.json: expected permission to run .*evil\.py.*--trust evil\.py"):
            parse_protocol(data, "manifest.json", [tmp_path / "grey.py"])
    assert not marker.exists()


def test_who_trusts_the_file_reads_the_same_protocol_wherever_it_lies_now(tmp_path: Path) -> None:
    protocol = read(tmp_path)
    data = protocol.as_json()
    assert str(tmp_path) not in str(data)
    assert parse_protocol(data, "manifest.json", [tmp_path / "grey.py"]).as_json() == data
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (tmp_path / "grey.py").rename(elsewhere / "grey.py")
    assert parse_protocol(data, "manifest.json", [elsewhere / "grey.py"]).as_json() == data


def test_a_file_that_changed_is_not_what_was_audited(tmp_path: Path) -> None:
    data = read(tmp_path).as_json()
    (tmp_path / "grey.py").write_text(ATTACK + "\nraise SystemExit\n")
    with pytest.raises(UserError, match=r"expected grey\.py as it was, sha256:\w{16}, for the attack Grey, got"):
        parse_protocol(data, "manifest.json", [tmp_path / "grey.py"])


def test_another_package_or_version_is_not_what_was_audited() -> None:
    data = read_protocol("quick").as_json()
    data["attacks"][0] |= {"method": "grey", "origin": "greys 0.3"}
    with pytest.raises(UserError, match=r"expected the package greys 0\.3 for the attack 'grey', which is not"):
        parse_protocol(data, "manifest.json")
    data["attacks"][0] |= {"method": "fgsm"}
    with pytest.raises(UserError, match=r"expected the attack 'fgsm' of greys 0\.3, got that of robusteval"):
        parse_protocol(data, "manifest.json")


def test_what_a_protocol_is_pinned_to() -> None:
    assert Origin("a:B", "robusteval", "1").pin is None
    assert Origin("a:B", "greys", "0.3").pin == "greys 0.3"
    assert Origin("/a.py:B", "a.py", "sha256:0123").pin == "sha256:0123"


@pytest.mark.parametrize(
    ("method", "more", "message"),
    [
        ("grey.py:Gray", "", r"expected a class 'Gray' in .*grey\.py, got none \(did you mean 'Grey'\?\)"),
        ("gone.py:Grey", "", r"expected a Python file in .*gone\.py, which does not exist"),
        ("grey.py:Plain", "", r"grey\.py:Plain to be a subclass of Attack"),
        ("grey.py:Untitled", "", r"grey\.py:Untitled to have a title, got none"),
        ("grey.py:Unfinished", "", r"grey\.py:Unfinished to have within, got none"),
        ("grey.py:Thief", "", r"grey\.py:Thief to have a name of its own, got 'pgd'"),
        ("grey.py:Grey", "strenght = 1", r"mine\.toml, attack 'grey': .*did you mean 'strength'"),
        ("grey.py:Grey", "strength = 'much'", r"mine\.toml, attack 'grey': .*got 'much' for 'strength'"),
    ],
)
def test_mistakes_are_named(tmp_path: Path, method: str, more: str, message: str) -> None:
    with pytest.raises(UserError, match=message) as raised:
        read(tmp_path, method=method, more=more)
    assert "mine.toml" in str(raised.value)


@pytest.mark.parametrize("code", ["1 / 0", "def (", "raise SystemExit(0)", "\x00"])
def test_a_file_that_does_not_run_is_named(tmp_path: Path, code: str) -> None:
    with pytest.raises(UserError, match=r"expected .*grey\.py to run without an error, got \w+"):
        read(tmp_path, code=code)


def test_a_metric_is_no_attack(tmp_path: Path) -> None:
    path = written(tmp_path)
    path.write_text('[[metrics]]\nmethod = "grey.py:Grey"\nnorm = "linf"\n')
    with pytest.raises(UserError, match=r"grey\.py:Grey to be a subclass of Metric"):
        read_protocol(str(path))
