"""Checkpoints: every format read back to the same logits; what does not fit is refused in one line."""

from __future__ import annotations

import pickle
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from robusteval.core.errors import UserError
from robusteval.data import read_images
from robusteval.models.architectures import build_network
from robusteval.models.checkpoints import open_checkpoint

SHAPE = (1, 8, 8)
Save = Callable[[nn.Module, Path], None]


def network() -> nn.Module:
    torch.manual_seed(0)
    return build_network("digits-cnn").eval()


def _export(net: nn.Module, path: Path) -> None:
    batch = torch.export.Dim("batch")
    program = torch.export.export(net, (torch.rand(2, *SHAPE),), dynamic_shapes=({0: batch},))
    torch.export.save(program, path)


def _script(net: nn.Module, path: Path) -> None:
    torch.jit.save(torch.jit.trace(net, torch.rand(2, *SHAPE)), str(path))


def _prefixed(net: nn.Module, path: Path) -> None:
    torch.save({"state_dict": {f"module.{k}": v for k, v in net.state_dict().items()}, "epoch": 3}, path)


FORMATS: dict[str, Save] = {
    "plain.safetensors": lambda net, path: save_file(dict(net.state_dict()), path),
    "plain.pt": lambda net, path: torch.save(net.state_dict(), path),
    "model.pth": lambda net, path: torch.save({"model": net.state_dict()}, path),
    "model_state_dict.pt": lambda net, path: torch.save({"model_state_dict": net.state_dict()}, path),
    "prefixed.pt": _prefixed,
    "exported.pt2": _export,
    "scripted.pt": _script,
}


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_every_format_gives_the_same_logits_and_gradients(name: str, tmp_path: Path) -> None:
    net, path = network(), tmp_path / name
    FORMATS[name](net, path)
    arch = None if name in ("exported.pt2", "scripted.pt") else "digits-cnn"
    model = open_checkpoint(path, arch, input_shape=SHAPE, mean=[0.5], std=[0.25], trusted=(path,))
    x = torch.rand(5, *SHAPE)
    torch.testing.assert_close(model.predict(x), net((x - 0.5) / 0.25).detach())
    gradient, _, _ = model.gradient(x, lambda z: z[:, 0])
    assert gradient.abs().sum() > 0
    assert model.num_classes == 10
    assert model.origin is not None
    assert model.origin.path == str(path)


def refused(path: Path, arch: str | None = "digits-cnn", trusted: tuple[Path, ...] = ()) -> str:
    with pytest.raises(UserError) as raised:
        open_checkpoint(path, arch, input_shape=SHAPE, trusted=trusted)
    message = str(raised.value)
    assert "\n" not in message
    assert message.startswith("expected ")
    return message


def test_a_file_that_would_execute_code_is_refused_and_executes_nothing(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[object, ...]:
            return (open, (str(tmp_path / "owned"), "w"))

    torch.save({"conv1.weight": Evil()}, tmp_path / "evil.pt")
    (tmp_path / "raw.pt").write_bytes(pickle.dumps({"conv1.weight": Evil()}))
    torch.save(network(), tmp_path / "whole.pt")
    for name in ("evil.pt", "raw.pt", "whole.pt"):
        message = refused(tmp_path / name)
        assert "execute code" in message
        assert "save its state_dict() as .safetensors" in message
    assert not (tmp_path / "owned").exists()


def test_loading_is_strict(tmp_path: Path) -> None:
    weights = dict(network().state_dict())
    first = "conv1.weight"
    cases = {
        "missing": ({k: v for k, v in weights.items() if k != first}, f"missing: {first}"),
        "unexpected": (weights | {"extra": torch.ones(1)}, "unexpected: extra"),
        "shape": (weights | {first: torch.ones(1, 2)}, f"of another shape: {first} (1, 2) for (16, 1, 3, 3)"),
        "half-prefixed": ({f"module.{k}" if k == first else k: v for k, v in weights.items()}, f"module.{first}"),
        "nan": (weights | {first: weights[first] * torch.nan}, "NaN or infinity in"),
    }
    for name, (content, expected) in cases.items():
        save_file(content, tmp_path / f"{name}.safetensors")
        assert expected in refused(tmp_path / f"{name}.safetensors")
    save_file({f"key{i}": torch.ones(1) for i in range(9)}, tmp_path / "many.safetensors")
    assert "and 4 more" in refused(tmp_path / "many.safetensors")


def test_unusable_files(tmp_path: Path) -> None:
    (tmp_path / "empty.pt").touch()
    (tmp_path / "garbage.pt").write_bytes(b"\x80garbage" * 50)
    (tmp_path / "text.safetensors").write_text("not weights")
    (tmp_path / "text.pt2").write_text("not a program")
    (tmp_path / "weights.onnx").write_text("")
    (tmp_path / "folder.pt").mkdir()
    torch.save([1, 2], tmp_path / "list.pt")
    torch.save({"a": 1}, tmp_path / "number.pt")
    torch.save(network().state_dict(), tmp_path / "good.pt")
    assert "does not exist" in refused(tmp_path / "no.pt")
    assert "is a folder" in refused(tmp_path / "folder.pt")
    assert "weights.onnx" in refused(tmp_path / "weights.onnx")
    assert "state dict" in refused(tmp_path / "list.pt")
    assert "only tensors" in refused(tmp_path / "number.pt")
    for name in ("empty.pt", "garbage.pt", "text.safetensors", "text.pt2"):
        assert name in refused(tmp_path / name)
    assert "digits-cnn" in refused(tmp_path / "good.pt", None)
    assert "did you mean 'digits-cnn'" in refused(tmp_path / "good.pt", "digitscnn")


def test_an_exported_program_needs_a_dynamic_batch(tmp_path: Path) -> None:
    torch.export.save(torch.export.export(network(), (torch.rand(2, *SHAPE),)), tmp_path / "fixed.pt2")
    assert "torch.export.Dim('batch')" in refused(tmp_path / "fixed.pt2", None, (tmp_path / "fixed.pt2",))
    assert "--trust" in refused(tmp_path / "fixed.pt2", None)
    assert "--trust" in refused(tmp_path / "fixed.pt2", None, (tmp_path / "other.pt2",))


def test_a_users_own_function(tmp_path: Path) -> None:
    source = tmp_path / "net.py"
    source.write_text(
        "from torch import nn\n"
        "def build():\n    return nn.Sequential(nn.Flatten(), nn.Linear(64, 3))\n"
        "def number():\n    return 3\n"
        "def broken():\n    raise RuntimeError('no')\n"
    )
    path = tmp_path / "w.safetensors"
    save_file({"1.weight": torch.ones(3, 64), "1.bias": torch.zeros(3)}, path)
    assert open_checkpoint(path, f"{source}:build", input_shape=SHAPE).num_classes == 3
    assert "did you mean 'build'" in refused(path, f"{source}:bild")
    assert "got int" in refused(path, f"{source}:number")
    assert "RuntimeError: no" in refused(path, f"{source}:broken")
    assert "does not exist" in refused(path, f"{tmp_path}/gone.py:build")
    source.write_text("def build(:")
    assert "SyntaxError" in refused(path, f"{source}:build")


def test_the_checkpoint_inside_pyautoattack_fits_resnet18() -> None:
    package = find_spec("pyautoattack")
    assert package is not None
    assert package.origin is not None
    images = read_images("foolbox:cifar10")
    path = Path(package.origin).parent / "examples" / "model_test.pt"
    model = open_checkpoint(path, "resnet18", input_shape=images.shape)
    assert (model.predict(images.pixels).argmax(1) == images.labels).sum() >= 15


def test_without_its_package_an_onnx_graph_is_refused_with_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "net.onnx").write_bytes(b"\x08\x08")
    monkeypatch.setitem(sys.modules, "onnx", None)
    assert "pip install 'robusteval[onnx]'" in refused(tmp_path / "net.onnx")
