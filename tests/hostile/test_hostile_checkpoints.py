"""Checkpoints of strangers, opened through the command line in a watched process: nothing executes, nothing is written
elsewhere, nothing hangs, and every refusal is one line; what people have is read."""

from __future__ import annotations

import io
import json
import os
import pickle
import random
import struct
import zipfile
from argparse import Namespace
from collections import defaultdict
from collections.abc import Callable, Iterator
from datetime import datetime
from decimal import Decimal
from enum import Enum
from pathlib import Path

import numpy
import pytest
import torch
from safetensors.torch import save
from torch import Tensor, nn

from commands import main
from confining import Action, Outcome, confined, confined_each
from robusteval.cli.running import open_checkpoints
from robusteval.data import read_images
from robusteval.models.architectures import build_network

COUNTS = {"pickles": 40, "torch zips": 36, "programs": 28, "damaged": 60, "bombs": 14, "foreign": 32, "good": 46}
COUNTS["odd pickles"] = 26
"""Files of each kind; docs/safety.md has the same table."""
SHAPE = (1, 8, 8)
Files = Iterator[tuple[str, bytes]]
ROOT = Path(__file__).parents[2]


def weights() -> dict[str, Tensor]:
    torch.manual_seed(0)
    return dict(build_network("digits-cnn").state_dict())


def saved(content: object) -> bytes:
    file = io.BytesIO()
    torch.save(content, file)
    return file.getvalue()


def crafted_pickles(canary: Path) -> list[bytes]:
    """Pickles that make the canary, by many functions and opcodes, in four protocols."""
    command, name = f"touch {canary}", str(canary)
    calls: list[tuple[str, str, str]] = [
        *(("os", f, command) for f in ("system", "popen")),
        *(("subprocess", f, command) for f in ("getoutput", "getstatusoutput")),
        *(("builtins", f, f"open({name!r}, 'w')") for f in ("eval", "exec")),
        *(("os", f, name) for f in ("mkdir", "makedirs")),
        ("torch.serialization", "load", name),
        ("builtins", "__import__", "this"),
    ]

    def argument(text: str) -> bytes:
        raw = text.encode()
        return b"X" + struct.pack("<I", len(raw)) + raw

    found = []
    for module, function, given in calls:
        found += [
            f"c{module}\n{function}\n".encode() + argument(given) + b"\x85R.",
            b"(" + argument(given) + f"i{module}\n{function}\n.".encode(),
            b"(" + f"c{module}\n{function}\n".encode() + argument(given) + b"o.",
            b"\x80\x04" + argument(module) + argument(function) + b"\x93" + argument(given) + b"\x85R.",
        ]
    return found


def pickles(canary: Path) -> Files:
    for i, raw in enumerate(crafted_pickles(canary)):
        yield f"pickle{i}{('.pt', '.pth', '.bin', '.ckpt', '.pth.tar')[i % 5]}", raw


def rezipped(raw: bytes, change: Callable[[str, bytes], bytes | None], compressed: bool = False) -> bytes:
    """A zip with members changed, or left out where `change` gives None."""
    file = io.BytesIO()
    how = zipfile.ZIP_DEFLATED if compressed else zipfile.ZIP_STORED
    with zipfile.ZipFile(io.BytesIO(raw)) as old, zipfile.ZipFile(file, "w", how) as new:
        for name in old.namelist():
            if (content := change(name, old.read(name))) is not None:
                new.writestr(name, content)
    return file.getvalue()


def torch_zips(canary: Path) -> Files:
    good = saved(weights())
    for i, evil in enumerate(crafted_pickles(canary)[:36]):
        changed = rezipped(good, lambda n, old, e=evil: e if n.endswith("data.pkl") else old)  # type: ignore[misc]
        yield f"zip{i}{('.pt', '.pth', '.ckpt', '.pt2', '.ts', '.safetensors')[i % 6]}", changed


class Writes(nn.Module):
    """A program that writes a file when it is called."""

    def __init__(self, path: str) -> None:
        super().__init__()
        self.path = path

    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1)[:, :10] + torch.from_file(self.path, shared=True, size=10)


def programs(canary: Path) -> Files:
    file = io.BytesIO()
    torch.jit.save(torch.jit.script(Writes(str(canary))), file)
    scripted = file.getvalue()
    evil = crafted_pickles(canary)
    yield from ((f"script{i}{ending}", scripted) for i, ending in enumerate((".ts", ".pt", ".pth", ".bin", ".ckpt")))
    with zipfile.ZipFile(io.BytesIO(scripted)) as archive:
        members = archive.namelist()
    for i, member in enumerate(members[:5]):
        changed = rezipped(scripted, lambda n, old, m=member, e=evil[i]: e if n == m else old)  # type: ignore[misc]
        yield f"script-{i}.pt", changed
    file = io.BytesIO()
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 10)).eval()
    shapes = ({0: torch.export.Dim("batch")},)
    torch.export.save(torch.export.export(net, (torch.rand(2, *SHAPE),), dynamic_shapes=shapes), file)
    exported = file.getvalue()
    with zipfile.ZipFile(io.BytesIO(exported)) as archive:
        members = archive.namelist()
    for i in range(COUNTS["programs"] - 5 - min(5, len(members))):
        target = members[i % len(members)]
        changed = rezipped(exported, lambda n, old, t=target, e=evil[i]: e if n == t else old)  # type: ignore[misc]
        yield f"exported{i}{('.pt2', '.pt')[i % 2]}", changed


def damaged(_: Path) -> Files:
    """Cut short, with bits turned over in the header, and with bytes of chance."""
    chance = random.Random(0)
    torn, plain = saved(weights()), save(weights())
    for i in range(20):
        yield f"cut{i}.pt", torn[: chance.randrange(1, len(torn) - 100)]
        yield f"cut{i}.safetensors", plain[: chance.randrange(1, len(plain))]
        turned = bytearray(plain)
        turned[chance.randrange(3, 8)] ^= 1 << chance.randrange(8)
        yield f"turned{i}.safetensors", bytes(turned)


def _header(entries: object, data: bytes = b"") -> bytes:
    raw = json.dumps(entries).encode()
    return struct.pack("<Q", len(raw)) + raw + data


def bombs(_: Path) -> Files:
    entry = {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}
    yield "keys.safetensors", _header({f"k{i}": entry for i in range(200_000)})
    yield "some-keys.safetensors", _header({f"k{i}": entry for i in range(20_001)})
    for i, shape in enumerate(([2**62, 4], [2**31, 2**31], [-1], [1e30], ["a"], [2**64])):
        yield f"shape{i}.safetensors", _header({"conv1.weight": {**entry, "shape": shape}})
    yield "deep.safetensors", struct.pack("<Q", 100_001) + b"{" + b'"a":[' * 20_000
    yield "length.safetensors", struct.pack("<Q", 2**31) + b"{" + bytes(100)
    good = saved(weights())
    yield "bomb.pt", rezipped(good, lambda n, old: bytes(2**26) if "/data/0" in n else old, compressed=True)
    yield "pickle-bomb.pt", rezipped(good, lambda n, old: b"N0" * 2**23 if n.endswith("pkl") else old)
    yield "stride.pt", saved({"conv1.weight": torch.zeros(1).expand(2**40)})
    yield "nan.pt", saved({k: v * torch.nan if v.is_floating_point() else v for k, v in weights().items()})


FOREIGN: tuple[bytes, ...] = (
    b"",
    b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 12345\n",
    b"<!DOCTYPE html><html><body>Not found</body></html>",
    b"<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>",
    b'{"error": "not found"}',
    b"\x89PNG\r\n\x1a\n" + bytes(64),
    b"\x1f\x8b" + bytes(64),
    b"\x80garbage" * 50,
    bytes(4096),
    pickle.dumps({"a": 1}),
    b"hello, this is no checkpoint\n",
    b"%!PS-Adobe\n(x) run\n",
    b"\x7fELF" + bytes(64),
    b"PK\x03\x04" + bytes(64),
    b"PK\x05\x06" + bytes(18),
    b"\x80",
)


def foreign(_: Path) -> Files:
    for i, content in enumerate(FOREIGN):
        yield f"foreign{i}.pt", content
        yield f"foreign{i}.safetensors", content


def older(*pickles: bytes) -> bytes:
    """The older layout of torch.save, without storages."""
    facts = {"protocol_version": 1001, "little_endian": True, "type_sizes": {}}
    start = b"".join(pickle.dumps(value, 2) for value in (0x1950A86A20F9469CFC6C, 1001, facts))
    return start + b"".join(pickles) + pickle.dumps([], 2)


def odd_pickles(canary: Path) -> Files:
    """Pickles that cost time or memory, or whose objects are not what they seem, in both layouts."""
    empty = saved({})
    steps = b"".join(b"h" + bytes([i]) + b"h" + bytes([i]) + b"\x86q" + bytes([i + 1]) for i in range(60))
    allocate = b"cbuiltins\nbytearray\nJ" + struct.pack("<i", 2**30) + b"\x85R"
    ordered = b"ccollections\nOrderedDict\n)R"
    evil = f"cos\nsystem\nX{chr(6)}{chr(0) * 3}touch R.".encode()
    raw = {
        "key": b"\x80\x02})q\x00" + steps + b"0" * 60 + b"h\x3cK\x01s.",
        "set": b"\x80\x04\x8f()q\x00" + steps + b"\x90.",
        "allocate": b"\x80\x02](" + allocate * 6 + b"e.",
        "bytearray8": b"\x80\x05\x96" + struct.pack("<Q", 2**40) + b".",
        "lists": b"\x80\x02](" + b"]" * (8 * 2**20 - 50) + b"e.",
        "dicts": b"\x80\x02](" + b"}" * (8 * 2**20 - 50) + b"e.",
        "ordered": b"\x80\x02](" + ordered * 250_000 + b"e.",
        "shadow": b"\x80\x02" + ordered + b"X\x01\0\0\0wK\x01s}X\x05\0\0\0itemsK\x05sb.",
        "integers": b"\x80\x02}(" + b"".join(b"I%d\nN" % (i * (2**61 - 1)) for i in range(100_000)) + b"u.",
        "deep": b"\x80\x02)" + b"\x85" * 1_000_000 + b".",
        "memo": b"\x80\x02h\x05.",
        "escape": b"\x80\x02c\x1b]0;x\x07\nfoo\n)R.",
        "beside": b"\x80\x02}X\x01\0\0\0x" + evil[:-1] + b"s.",
    }
    for name, content in raw.items():
        changed = rezipped(empty, lambda n, old, c=content: c if n.endswith("data.pkl") else old)  # type: ignore[misc]
        yield f"{name}.pt", changed
        yield f"{name}-older.pth", older(content)


def beside_weights(own: dict[str, Tensor]) -> Iterator[tuple[str, object]]:
    """Files of trainings with more in them than the weights."""
    averaged = torch.optim.swa_utils.AveragedModel(build_network("digits-cnn")).state_dict()
    averaged.update({f"module.{key}": value for key, value in own.items()})
    zeros = {key: torch.zeros_like(value) for key, value in own.items()}
    model = {f"model.{key}": value for key, value in own.items()}
    yield "averaged", averaged
    yield "lightning", {"state_dict": {**model, "criterion.weight": torch.ones(10)}, "hyper_parameters": Namespace(a=1)}
    yield "two", {**model, **{f"ema_model.{key}": value for key, value in zeros.items()}}
    yield "normalize", {**model, "normalize.mean": torch.zeros(1), "normalize.std": torch.ones(1)}
    yield "statistics", {"model": {**own, "criterion.weight": torch.ones(10)}, "optimizer": {"exp_avg": zeros}}
    yield "item", (own, 3)
    for i, thing in enumerate(
        (
            *(numpy.float64(3), numpy.int64(3), numpy.ones(3), numpy.random.default_rng(0), Path("a"), {1, 2}),
            *(datetime.now(), defaultdict(list), Kind.ONE, Decimal(1), slice(1)),
        )
    ):
        yield f"thing{i}", {"thing": thing, "model": own}


class Kind(Enum):
    ONE = 1


def good(_: Path) -> Files:
    for name, content in beside_weights(weights()):
        yield f"{name}.pt", saved(content)
    for protocol in (3, 4, 5):
        file = io.BytesIO()
        torch.save({"model": weights()}, file, pickle_protocol=protocol)
        yield f"protocol{protocol}.pt", file.getvalue()
    for protocol in (2, 4):
        file = io.BytesIO()
        content = {"args": Namespace(rate=0.1), "epoch": numpy.float64(1), "net": weights()}
        torch.save(content, file, pickle_protocol=protocol, _use_new_zipfile_serialization=False)
        yield f"older{protocol}.pt", file.getvalue()
    own = weights()
    for i, prefix in enumerate(
        ("", "module.", "_orig_mod.", "model.", "net.", "backbone.", "network.", "module._orig_mod.model.")
    ):
        state = {prefix + key: value for key, value in own.items()}
        optimizer = torch.optim.Adam([nn.Parameter(torch.ones(2))]).state_dict()
        yield f"prefix{i}.bin", saved(state)
        yield f"prefix{i}.ckpt", saved({"epoch": 3, "state_dict": state, "optimizer_states": [optimizer]})
        wrapper = ("net", "model_state", "ema", "state_dict_ema", "params", "model", "model_state_dict", "mine")[i]
        yield f"prefix{i}.pth.tar", saved({"checkpoint": {wrapper: state, "best": 0.5}, "optimizer": optimizer})


KINDS = {
    "pickles": pickles,
    "torch zips": torch_zips,
    "programs": programs,
    "damaged": damaged,
    "bombs": bombs,
    "foreign": foreign,
    "odd pickles": odd_pickles,
    "good": good,
}


PLAIN = ("audit", "--arch", "digits-cnn", "--data", "digits", "--limit", "1")


def problems(outcome: Outcome, code: int) -> list[str]:
    """What an outcome shows that it must not."""
    found = [f"executed {what}" for what in outcome.executed] + [f"wrote {path}" for path in outcome.outside]
    found += ["hung"] * outcome.hung + ["traceback"] * ("Traceback" in outcome.output)
    if outcome.code != code:
        found.append(f"exit code {outcome.code}: {outcome.output[-300:]}")
    if code == 2 and len(outcome.output.strip().splitlines()) != 1:
        found.append(f"not one line: {outcome.output[-300:]}")
    return found


def audit(path: Path, folder: Path) -> Action:
    return lambda: main([*PLAIN, path, "--out", folder / "run"])


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "good"])
@pytest.mark.filterwarnings("ignore")
def test_what_is_hostile_is_refused_in_a_line(kind: str, tmp_path: Path) -> None:
    read_images("digits", 1)
    canary, files, folder = tmp_path / "canary", tmp_path / "files", tmp_path / "out"
    files.mkdir()
    folder.mkdir()
    for name, content in KINDS[kind](canary):
        (files / name).write_bytes(content)
    actions = {path.name: audit(path, folder) for path in files.iterdir()}
    outcomes = confined_each(actions, folder, seconds=15)
    wrong = {}
    for name, outcome in outcomes.items():
        # A canary is a path outside of the folder.
        if found := problems(outcome, 2):
            wrong[name] = found
        if kind in ("damaged", "foreign") and "execute code" in outcome.output:
            wrong[name] = ["said to execute code"]
        if "\x1b" in outcome.output or "Weights only" in outcome.output:
            wrong[name] = [outcome.output]
        if kind == "programs" and "--trust" not in outcome.output:
            wrong[name] = [outcome.output]
    assert not wrong
    assert len(outcomes) == COUNTS[kind]
    assert not canary.exists()
    assert not any(folder.iterdir())


def test_the_canary_sings_where_a_crafted_pickle_is_loaded(tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    for raw in crafted_pickles(canary)[:4]:
        assert confined(lambda raw=raw: int(bool(pickle.loads(raw))), tmp_path / "out").executed  # type: ignore[misc]
        assert canary.exists()
        canary.unlink()


def test_what_people_have_is_read(tmp_path: Path) -> None:
    images, actions = read_images("digits", 1), {}
    expected = next(iter(weights().values()))
    folder = tmp_path / "out"
    folder.mkdir()
    for name, content in good(tmp_path):
        path = tmp_path / name
        path.write_bytes(content)

        def action(path: Path = path) -> int:
            (model,) = open_checkpoints([str(path)], "digits-cnn", images, None, None)
            own = next(value for key, value in model.module.state_dict().items() if key.endswith("conv1.weight"))
            return int(not torch.equal(own, expected))

        actions[name] = action
    outcomes = confined_each(actions, folder)
    for name, outcome in outcomes.items():
        assert not problems(outcome, 0), name
        assert ("note: " in outcome.output) == (name != "prefix0.bin"), outcome.output
    assert len(outcomes) == COUNTS["good"]


@pytest.mark.parametrize("kind", ["a FIFO", "a device", "a folder", "links"])
def test_what_is_no_file(kind: str, tmp_path: Path) -> None:
    path, folder = tmp_path / "w.pt", tmp_path / "out"
    folder.mkdir()
    if kind == "a FIFO":
        os.mkfifo(path)
    elif kind == "a folder":
        path.mkdir()
    else:
        path.symlink_to("/dev/zero" if kind == "a device" else path)
    outcome = confined(audit(path, folder), folder, seconds=15)
    assert not problems(outcome, 2)
    assert kind in outcome.output


def test_the_table_of_counts_is_that_of_the_documentation() -> None:
    text = (ROOT / "docs" / "safety.md").read_text()
    assert sum(COUNTS.values()) >= 200
    assert not [kind for kind, count in COUNTS.items() if f"| {kind} | {count} |" not in text]
