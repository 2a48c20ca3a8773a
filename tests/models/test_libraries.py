"""Networks of other packages by name, with random weights and small configurations; they need the extras."""

from __future__ import annotations

import json
import sys
import types
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from robusteval.core.errors import UserError
from robusteval.models.checkpoints import open_checkpoint
from robusteval.models.extras import imported
from robusteval.models.libraries import classes_of, library_network
from robusteval.models.libraries.preparation import LibraryNetwork, Preparation, Resized, resized, resizing, said
from robusteval.models.libraries.vision import with_torchvision


def the_package(name: str) -> Any:
    try:
        return with_torchvision(name, name, "for this test")
    except UserError as error:
        pytest.skip(str(error))


def images(shape: tuple[int, int, int], count: int = 2) -> Tensor:
    return torch.rand(count, *shape, generator=torch.Generator().manual_seed(0))


def saved(network: nn.Module, path: Path) -> Path:
    save_file({k: v.contiguous() for k, v in network.state_dict().items()}, path)
    return path


def refused(path: Path | str, arch: str | None, shape: tuple[int, int, int] = (3, 32, 32)) -> str:
    with pytest.raises(UserError) as error:
        open_checkpoint(path, arch, input_shape=shape)
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize(("classes", "channels"), [(1000, 3), (7, 1)])
def test_a_network_of_timm_has_the_classes_of_its_weights_and_its_normalisation(
    tmp_path: Path, classes: int, channels: int
) -> None:
    timm = the_package("timm")
    torch.manual_seed(0)
    network = timm.create_model("resnet10t", num_classes=classes, in_chans=channels).eval()
    shape = (channels, 32, 32)
    opened = open_checkpoint(saved(network, tmp_path / "net.safetensors"), "timm:resnet10t", input_shape=shape)
    pixels = images(shape)
    mean, std = (torch.tensor(network.pretrained_cfg[k]).view(1, 3, 1, 1) for k in ("mean", "std"))
    with torch.no_grad():
        expected = network((pixels - mean) / std if channels == 3 else pixels)
    torch.testing.assert_close(opened(pixels), expected, rtol=1e-4, atol=1e-4)
    assert opened.origin is not None
    (note,) = opened.origin.notes
    assert "32x32 are taken as they are" in note
    assert ("0.485" in note) == (channels == 3)


def test_the_normalisation_that_is_given_wins(tmp_path: Path) -> None:
    timm = the_package("timm")
    network = timm.create_model("resnet10t", num_classes=3).eval()
    path, pixels = saved(network, tmp_path / "net.safetensors"), images((3, 32, 32))
    opened = open_checkpoint(path, "timm:resnet10t", input_shape=(3, 32, 32), mean=(0, 0, 0), std=(1, 1, 1))
    torch.testing.assert_close(opened(pixels), network(pixels).detach(), rtol=1e-4, atol=1e-4)


def test_a_transformer_takes_other_sizes_through_its_resize_and_crop(tmp_path: Path) -> None:
    timm = the_package("timm")
    torch.manual_seed(0)
    network = timm.create_model("test_vit", num_classes=5).eval()
    opened = open_checkpoint(saved(network, tmp_path / "net.safetensors"), "timm:test_vit", input_shape=(3, 40, 60))
    assert opened.origin is not None
    assert opened.num_classes == 5
    assert "resized" in opened.origin.notes[0]
    gradient, _, _ = opened.gradient(images((3, 40, 60)), lambda logits: logits[:, 0])
    assert (gradient != 0).any()


def test_a_transformer_made_for_other_sizes_is_told_the_way(tmp_path: Path) -> None:
    timm = the_package("timm")
    network = timm.create_model("test_vit", num_classes=5, img_size=64)
    found = refused(saved(network, tmp_path / "net.safetensors"), "timm:test_vit", (3, 64, 64))
    assert "pos_embed" in found
    assert "--arch FILE.py:FUNCTION" in found


def test_names_that_lead_elsewhere_or_nowhere_are_refused(tmp_path: Path) -> None:
    the_package("timm")
    path = saved(nn.Linear(2, 2), tmp_path / "net.safetensors")
    for name in ("hf-hub:someone/thing", "local-dir:/tmp", "resnt18"):
        assert "expected a network of timm" in refused(path, f"timm:{name}")
    assert "resnet18" in refused(path, "torchvision:resnet_18")
    assert "missing" in refused(path, "timm:resnet10t")


def test_a_network_of_torchvision(tmp_path: Path) -> None:
    models = the_package("torchvision").models
    torch.manual_seed(0)
    network = models.get_model("squeezenet1_1", num_classes=4).eval()
    path, pixels = saved(network, tmp_path / "net.safetensors"), images((3, 64, 64))
    opened = open_checkpoint(path, "torchvision:squeezenet1_1", input_shape=(3, 64, 64))
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    with torch.no_grad():
        torch.testing.assert_close(opened(pixels), network((pixels - mean) / std), rtol=1e-4, atol=1e-4)


def small_folder(folder: Path, names: tuple[str, ...] = ("cat", "dog", "owl")) -> nn.Module:
    """A ViT for 16x16 images with random weights, as transformers saves it."""
    transformers = the_package("transformers")
    torch.manual_seed(0)
    config = transformers.ViTConfig(
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        image_size=16,
        patch_size=4,
        id2label=dict(enumerate(names)),
    )
    network: nn.Module = transformers.AutoModelForImageClassification.from_config(config).eval()
    network.save_pretrained(folder)  # type: ignore[operator]
    own = {"do_resize": True, "size": {"height": 16, "width": 16}, "do_normalize": True, "resample": 2}
    own |= {
        "image_mean": [0.5, 0.5, 0.5],
        "image_std": [0.25, 0.25, 0.25],
        "do_rescale": True,
        "rescale_factor": 1 / 255,
    }
    (folder / "preprocessor_config.json").write_text(json.dumps(own))
    return network


def test_a_folder_of_transformers(tmp_path: Path) -> None:
    network = small_folder(tmp_path)
    pixels = images((3, 16, 16))
    with torch.no_grad():
        expected = network((pixels - 0.5) / 0.25).logits
    by_name = open_checkpoint(f"hf:{tmp_path}", input_shape=(3, 16, 16))
    by_file = open_checkpoint(tmp_path / "model.safetensors", f"hf:{tmp_path}", input_shape=(3, 16, 16))
    for opened in (by_name, by_file):
        torch.testing.assert_close(opened(pixels), expected)
        assert opened.name == tmp_path.name
        assert opened.origin is not None
        assert opened.origin.class_names == ("cat", "dog", "owl")
    assert by_name.fingerprint == by_file.fingerprint
    gradient, _, _ = by_name.gradient(pixels, lambda logits: logits[:, 0])
    assert (gradient != 0).any()
    larger = open_checkpoint(f"hf:{tmp_path}", input_shape=(3, 24, 32))
    assert larger(images((3, 24, 32))).shape == (2, 3)


def test_folders_that_do_not_fit_are_refused_and_run_nothing(tmp_path: Path) -> None:
    small_folder(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())

    def changed(**settings: Any) -> str:
        (tmp_path / "config.json").write_text(json.dumps(config | settings))
        return refused(f"hf:{tmp_path}", None, (3, 16, 16))

    canary = tmp_path / "canary"
    (tmp_path / "evil.py").write_text(f"open({str(canary)!r}, 'w')")
    code = {"AutoConfig": "evil.C", "AutoModelForImageClassification": "evil.M"}
    assert str(tmp_path) in changed(model_type="evil", auto_map=code)
    assert not canary.exists()
    assert "hidden_size" in changed(hidden_size=10**9)
    assert "num_hidden_layers" in changed(num_hidden_layers=10**6)
    assert "weights" in changed(hidden_size=10**6, intermediate_size=10**6, num_attention_heads=1)
    assert "keys" in changed(num_hidden_layers=2)
    assert str(tmp_path) in changed(model_type="bert")
    (tmp_path / "config.json").write_text("[1]")
    assert "JSON object" in refused(f"hf:{tmp_path}", None)
    assert "config.json" in refused(f"hf:{tmp_path / 'nowhere'}", None)


def test_networks_of_robustbench_are_found_in_its_tables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def network() -> nn.Module:
        torch.manual_seed(0)
        return nn.Sequential(nn.Flatten(), nn.Linear(12, 3))

    models: Any = types.ModuleType("robustbench.model_zoo.models")
    entry = {"model": network}
    models.model_dicts = {"cifar10": {"Linf": {"A": entry, "B": entry}, "L2": {"B": entry}}}
    for name in ("robustbench", "robustbench.model_zoo"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    monkeypatch.setitem(sys.modules, "robustbench.model_zoo.models", models)
    path, pixels = saved(network(), tmp_path / "net.safetensors"), images((3, 2, 2))
    for name in ("A", "cifar10/L2/B"):
        opened = open_checkpoint(path, f"robustbench:{name}", input_shape=(3, 2, 2))
        torch.testing.assert_close(opened(pixels), network()(pixels).detach())
    assert "cifar10/Linf/B, cifar10/L2/B" in refused(path, "robustbench:B")
    assert "cifar10/Linf/A" in refused(path, "robustbench:C")


@pytest.mark.parametrize("package", ["timm", "torchvision", "transformers", "robustbench"])
def test_a_package_that_is_missing_is_told_with_its_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, package: str
) -> None:
    for name in (package, f"{package}.models"):
        monkeypatch.setitem(sys.modules, name, None)
    path = saved(nn.Linear(2, 2), tmp_path / "net.safetensors")
    (tmp_path / "config.json").write_text("{}")
    prefix = "hf" if package == "transformers" else package
    found = refused(path, f"{prefix}:{tmp_path if prefix == 'hf' else 'name'}")
    assert f"expected the package {package}" in found
    assert "pip install" in found
    assert ("github.com" if package == "robustbench" else f"'robusteval[{prefix}]'") in found


def test_sizes_of_a_resize() -> None:
    assert resized(8, (20, 10)) == (16, 8)
    assert resized(8, (10, 20)) == (8, 16)
    assert resized((4, 6), (10, 20)) == (4, 6)
    own = Preparation(resize=8, crop=(6, 6), exact=True)
    network = LibraryNetwork(nn.Flatten(), own)
    assert resizing(network, (6, 6)) is network.network
    found = resizing(network, (16, 8))
    assert isinstance(found, Resized)
    flat = torch.full((1, 1, 16, 8), 0.25)
    torch.testing.assert_close(found(flat), torch.full((1, 36), 0.25))
    assert "16x8" in said("x", network, (16, 8), True)
    assert said("x", network, (6, 6), True) == ""


def test_classes_are_those_of_the_last_layer() -> None:
    own = {"a": torch.zeros(4, 3), "b.weight": torch.zeros(10, 4), "b.bias": torch.zeros(10)}
    assert classes_of({"a": torch.zeros(4, 3), "b.weight": torch.zeros(7, 4), "b.bias": torch.zeros(7)}, own) == 7
    assert classes_of(own, own) is None
    assert classes_of({"a": torch.zeros(4, 5), "b.weight": torch.zeros(10, 4)}, own) is None


def test_a_module_that_fails_when_it_is_imported_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "broken_extra.py").write_text("raise RuntimeError('two packages do not fit')")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(UserError, match="two packages do not fit"):
        imported("broken_extra", "broken", "for this test")
    with pytest.raises(UserError, match="timm:"):
        library_network("timm:")
