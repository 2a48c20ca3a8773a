"""Protocols that mean harm or were damaged, through the command line: each ends in one line and exit code 2."""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from commands import main
from confining import Outcome, confined, confined_each

FGSM = '[[attacks]]\nmethod = "fgsm"\nnorm = "linf"\n'
BUDGETS = "[budgets]\nlinf = [0.1]\n"
SECONDS = 10.0


def _one(settings: str, kind: str = "attacks") -> str:
    return f"{BUDGETS}[[{kind}]]\n{settings}\n"


def _numbers() -> Iterator[tuple[str, str]]:
    settings = {
        "pgd": ("steps", "restarts"),
        "apgd": ("steps", "restarts"),
        "square": ("queries",),
        "fmn": ("steps",),
        "deepfool": ("steps",),
    }
    values = [
        "1000000000000000000",
        "9" * 40,
        "9" * 5000,
        "0x" + "f" * 3000,
        "nan",
        "inf",
        "-1",
        "true",
        '"1e18"',
        "[]",
    ]
    for method, names in settings.items():
        norm = "l2" if method in ("deepfool", "fmn") else "linf"
        for name in names:
            for i, value in enumerate(values):
                yield f"{method} {name} {i}", _one(f'method = "{method}"\nnorm = "{norm}"\n{name} = {value}')
    for i, value in enumerate(
        ["nan", "inf", "-0.1", "0", "1e999", '"1/0"', '"x"', "[[0.1]]", "true", "{}", "9" * 4999]
    ):
        yield f"budget {i}", f"[budgets]\nlinf = [{value}]\n{FGSM}"
    yield "top", f"top = {10**18}\n{BUDGETS}{FGSM}"
    yield "top hex", f"top = 0x{'f' * 9000}\n{BUDGETS}{FGSM}"
    yield "a million budgets", f"[budgets]\nlinf = [{','.join(['0.1'] * 40_000)}]\n{FGSM}"


def _names() -> Iterator[tuple[str, str]]:
    names = ["../x", "/etc/x", "a/b", "a\\\\b", "..", ".", "", "x/../../../ESCAPED", "C:x", "con", "NUL.txt", "clean"]
    names += ["sanity", "repeat", "CLEAN", "\\u001b]0;owned\\u0007", "\\u202Egnp.exe", "a\\nb", "a\\u0000b", " ", "a."]
    names += ["\\u2025", "\\uFF0E\\uFF0E\\uFF0F", "x" * 61, "x" * 9000, "x" * 200_000, "=cmd|' /C calc'!A0", "[red]x"]
    for i, name in enumerate(names):
        yield f"label {i}", BUDGETS + FGSM + f'name = "{name}"\n'
    for i, name in enumerate(name for name in names if name.lower() not in ("clean", "sanity", "repeat")):
        if name != "x" * 61:
            yield f"protocol name {i}", f'name = "{name}"\n{BUDGETS}{FGSM}'
    yield "twice", BUDGETS + FGSM + FGSM
    yield "twice but for case", BUDGETS + FGSM + 'name = "A"\n' + FGSM + 'name = "a"\n'


def _programs() -> Iterator[tuple[str, str]]:
    for i, place in enumerate(["{evil}", "../outside.py", "sub/../../outside.py", "./sub/../../outside.py", "link.py"]):
        for kind in ("attacks", "certificates", "metrics"):
            yield f"{kind} file {i}", _one(f'method = "{place}:Evil"', kind)
    for i, place in enumerate(["none.py", "fifo.py", "folder.py", "/dev/zero.py", "a\\u0000.py", "x" * 5000 + ".py"]):
        yield f"no file {i}", _one(f'method = "{place}:Evil"')
    for i, spec in enumerate(
        ["os:system", "__import__('os').system('true')", "builtins.exec", "x.py:", ":x", "{}", "%s"]
    ):
        yield f"no method {i}", _one(f'method = "{spec}"')


def _toml() -> Iterator[tuple[str, str]]:
    deep = 20_000
    yield "deep lists", "x = " + "[" * deep + "]" * deep
    yield "deep tables", "x = " + "{a=" * deep + "1" + "}" * deep
    yield "deep key", ".".join(["a"] * deep) + " = 1"
    yield "deep header", "[" + ".".join(["a"] * deep) + "]"
    yield "many deep keys", "\n".join(".".join([f"a{i}", *["a"] * 199]) + "=1" for i in range(500))
    yield "nested ten", BUDGETS + FGSM + "x = " + "[" * 10 + "]" * 10
    yield "a million attacks", BUDGETS + FGSM * 100_000
    yield "5000 attacks", BUDGETS + FGSM * 5_000
    yield "1001 attacks", BUDGETS + "".join(f'[[attacks]]\nmethod="fgsm"\nname="a{i}"\n' for i in range(1001))
    yield "megabytes", BUDGETS + FGSM + f'description = "{"x" * 3_000_000}"'
    yield "long text", f'description = "{"x" * 20_000}"\n' + BUDGETS + FGSM
    yield "long key", BUDGETS + FGSM + f"{'k' * 1000} = 1"
    for i, text in enumerate(
        ["", "x", "=", "[", "[[attacks", "\0", "name = ", '"""', "attacks = 1", "attacks = [1]", "[attacks]"]
    ):
        yield f"damaged {i}", text
    for i, text in enumerate(
        ["budgets = 1", "[budgets]\nlinf = {}", "[x]", "[calibration]", "calibration = 1", "top = 1979-05-27"]
    ):
        yield f"odd section {i}", f"{text}\n{FGSM}"
    yield "escape in a key", BUDGETS + FGSM + '"\\u001b]0;x\\u0007" = 1'
    yield "markup in a key", BUDGETS + FGSM + '":smile: [red]x[/red]" = 1'
    yield "surrogates", BUDGETS + FGSM + 'name = "\\ud800"'


def _binary() -> Iterator[tuple[str, bytes]]:
    draw = random.Random(0)
    for i in range(12):
        yield f"noise {i}", draw.randbytes(1000)
    whole = (BUDGETS + FGSM * 2).encode()
    for i in range(12):
        damaged = bytearray(whole)
        for at in draw.sample(range(len(whole)), 4):
            damaged[at] = draw.choice(b'\0\x1b\xff"[]={\\')
        yield f"damaged bytes {i}", bytes(damaged)
    yield "utf-16", "x = 1".encode("utf-16")
    yield "elf", b"\x7fELF" + bytes(500)
    yield "gzip", b"\x1f\x8b\x08" + bytes(500)


CRAFTED: dict[str, dict[str, bytes]] = {
    kind: {name: text.encode() for name, text in make()}
    for kind, make in {"numbers": _numbers, "names": _names, "programs": _programs, "TOML": _toml}.items()
} | {"bytes": dict(_binary())}


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of protocols with what they point at, images and a model."""
    ground = tmp_path_factory.mktemp("ground") / "in"
    (ground / "sub").mkdir(parents=True)
    canary = ground.parent / "canary"
    evil = f"open({str(canary)!r}, 'w').close()\n"
    for path in (ground / "sub" / "inner.py", ground.parent / "outside.py"):
        path.write_text(evil)
    (ground / "link.py").symlink_to(ground.parent / "outside.py")
    (ground / "folder.py").mkdir()
    os.mkfifo(ground / "fifo.py")
    np.savez(ground / "images.npz", x=np.full((2, 8, 8, 1), 128, np.uint8), y=np.array([0, 1]))
    # Everything is imported before the children are forked.
    (ground / "warm.toml").write_text(BUDGETS + FGSM)
    assert _audit(ground, ground / "warm.toml")() == 0
    shutil.rmtree(ground / "run")
    return ground


def _audit(ground: Path, protocol: object, out: str = "run") -> Callable[[], int]:
    model = Path(__file__).parents[2] / "robusteval" / "demo" / "digits-standard.safetensors"
    data = ground / "images.npz"
    words = ["audit", model, "--arch", "digits-cnn", "--data", data, "--protocol", protocol, "--out", ground / out]
    return lambda: main(words)


def _refused(found: Outcome) -> bool:
    """One line without what a terminal obeys, exit code 2, and nothing else."""
    said = found.output.strip("\n")
    one_line = (said.startswith("error: expected ") or ".toml" in said) and len(said) < 3000
    obeyed = set(said) & {chr(i) for i in (*range(32), *range(127, 160), 0x202E)}
    return found.clean and found.code == 2 and one_line and not obeyed


@pytest.mark.parametrize("kind", CRAFTED)
def test_a_crafted_protocol_is_one_line(kind: str, ground: Path) -> None:
    evil, actions = str(ground.parent / "outside.py").encode(), {}
    for i, (name, text) in enumerate(CRAFTED[kind].items()):
        path = ground / f"{kind}{i}.toml"
        path.write_bytes(text.replace(b"{evil}", evil))
        actions[name] = _audit(ground, path, f"runs/{name}")
    outcomes = confined_each(actions, ground, SECONDS)
    assert outcomes.keys() == CRAFTED[kind].keys()
    assert not {name: found for name, found in outcomes.items() if not _refused(found)}
    assert not (ground.parent / "canary").exists()
    assert not (ground / "runs").exists()


@pytest.mark.parametrize(
    "spec",
    ["fifo", "zero", "random", "folder", "memory", "link", "circle", "long", "longer", "escape", "empty", "dash"],
)
def test_what_is_no_file_is_one_line(spec: str, ground: Path) -> None:
    made = {"zero": "/dev/zero", "random": "/dev/urandom", "folder": ground, "memory": "/proc/self/mem"}
    made |= {
        "long": "x" * 5000,
        "longer": "a/" * 50_000,
        "escape": "\x1b]0;owned\x07[red]:smile:",
        "empty": "",
        "dash": "-",
    }
    path = Path(str(made.get(spec, ground / f"{spec}.toml")))
    if spec == "fifo":
        os.mkfifo(path)
    if spec in ("link", "circle"):
        path.symlink_to("/dev/zero" if spec == "link" else path)
    found = confined(_audit(ground, made.get(spec, path)), ground, SECONDS)
    assert _refused(found), found
    assert not (ground / "run").exists()


def test_there_are_enough_of_them() -> None:
    names = [name for crafted in CRAFTED.values() for name in crafted]
    print(f"{len(names) + 12} protocols")
    assert len(set(names)) == len(names) >= 120


def test_the_same_audit_runs_with_a_plain_protocol(ground: Path) -> None:
    """Else nothing above is said by the protocol."""
    path = ground / "plain.toml"
    path.write_text(BUDGETS + FGSM)
    found = confined(_audit(ground, path), ground, SECONDS)
    assert found.clean, found
    assert (found.code, (ground / "run" / "report.html").exists()) == (0, True)
    shutil.rmtree(ground / "run")
