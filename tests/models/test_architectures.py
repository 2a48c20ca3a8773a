"""Every architecture: its logits, its number of parameters, the names that checkpoints have for them."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from robusteval.certify.base import Certificate
from robusteval.certify.propagation.crown import CROWN
from robusteval.certify.propagation.ibp import IBP
from robusteval.certify.propagation.lipschitz import Lipschitz
from robusteval.core.errors import UserError
from robusteval.models.architectures import ARCHITECTURES
from robusteval.models.architectures.standardisation import PerImageStandardisation
from robusteval.models.checkpoints import open_checkpoint


def conv(inputs: int, outputs: int, kernel: int) -> int:
    return outputs * (inputs * kernel**2 + 1)


def dense(inputs: int, outputs: int) -> int:
    return (inputs + 1) * outputs


def cnn7(channels: int, a: int, b: int, c: int, flat: int) -> int:
    """a and b maps, and c hidden values."""
    features = conv(channels, a, 3) + conv(a, a, 3) + conv(a, b, 3) + conv(b, b, 3)
    return features + dense(flat, c) + dense(c, c) + dense(c, 10)


def norms(*widths: int) -> int:
    return 2 * sum(widths)


def branches(width: int) -> int:
    """A block of ResNeXt-34 (2x32): four convolutions without bias, each with its normalisation."""
    return 4 * (9 * width**2 + 2 * width)


LENET = conv(1, 32, 5) + conv(32, 64, 5) + dense(3136, 1024) + dense(1024, 10)
ALEXNET = conv(3, 64, 11) + conv(64, 192, 5) + conv(192, 384, 3) + conv(384, 256, 3) + conv(256, 256, 3)
RESNEXT = 3 * 9 * 32 + 5 * (branches(32) + branches(64) + branches(128)) + 32 * 64 + 64 * 128 + norms(32, 64, 128)
NUMBERS = {
    "digits-cnn": conv(1, 16, 3) + conv(16, 32, 3) + dense(512, 64) + dense(64, 10),
    "lenet": LENET,
    "lenet-cifar10": conv(3, 32, 5) + conv(32, 64, 5) + dense(4096, 1024) + dense(1024, 10),
    "moments-lenet-mnist": LENET,
    "moments-lenet-cifar10": conv(3, 32, 5) + conv(32, 64, 5) + dense(4096, 1024) + dense(1024, 10),
    "moments-lenet-cifar100": conv(3, 32, 5) + conv(32, 64, 5) + dense(4096, 1024) + dense(1024, 100),
    "lenet5": 61_706,
    "smoothkernels-cnn": LENET,
    "alexnet-cifar10": ALEXNET + dense(256, 4096) + dense(4096, 4096) + dense(4096, 10),
    "alexnet-cifar100": ALEXNET + dense(256, 4096) + dense(4096, 4096) + dense(4096, 100),
    "cnn7-mnist": cnn7(1, 32, 64, 200, 1024),
    "cnn7-cifar10": cnn7(3, 64, 128, 256, 3200),
    "cnn7-std-mnist": cnn7(1, 32, 64, 200, 1024),
    "cnn7-std-cifar10": cnn7(3, 64, 128, 256, 3200),
    "cnn7-bn-mnist": cnn7(1, 32, 64, 200, 1024) + norms(32, 32, 64, 64),
    "cnn7-bn-cifar10": cnn7(3, 64, 128, 256, 3200) + norms(64, 64, 128, 128),
    "resnet18": 11_173_962,
    "resnext34-2x32": RESNEXT + dense(128, 10),
    "wrn-28-10": 36_479_194,
    "resnet50": 25_557_032,
}
"""Counted layer by layer, or where a number alone stands, as the literature and other libraries give it."""
SMALL = [name for name, number in NUMBERS.items() if number < 5e6]


@cache
def network(name: str) -> nn.Module:
    """Drawn once a process, for tests that leave it as it is."""
    torch.manual_seed(3)
    return ARCHITECTURES[name].network().eval()


def images(name: str, n: int = 2) -> Tensor:
    return torch.rand(n, *ARCHITECTURES[name].input_shape, generator=torch.Generator().manual_seed(4))


def layers(name: str) -> list[str]:
    return [type(layer).__name__ for layer in network(name).children()]


def test_every_architecture_has_a_known_number_of_parameters() -> None:
    found = {name: sum(p.numel() for p in network(name).parameters()) for name in ARCHITECTURES}
    assert found == NUMBERS


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_every_architecture_gives_logits_in_its_default_size(name: str) -> None:
    architecture = ARCHITECTURES[name]
    with torch.no_grad():
        logits = network(name)(images(name))
    assert logits.shape == (2, architecture.num_classes)
    assert logits.isfinite().all()
    assert (logits[0] != logits[1]).any()
    assert architecture.name == name
    assert architecture.summary


@pytest.mark.parametrize("name", SMALL)
def test_a_checkpoint_gives_the_same_logits(name: str, tmp_path: Path) -> None:
    path = tmp_path / "network.safetensors"
    save_file(network(name).state_dict(), path)
    model = open_checkpoint(path, name, input_shape=ARCHITECTURES[name].input_shape)
    with torch.no_grad():
        torch.testing.assert_close(model.predict(images(name)), network(name)(images(name)))


@pytest.mark.parametrize(
    ("name", "widths"),
    [
        ("lenet", [32, 64, 1024, 10]),
        ("lenet-cifar10", [32, 64, 1024, 10]),
        ("moments-lenet-mnist", [32, 64, 1024, 10]),
        ("moments-lenet-cifar100", [32, 64, 1024, 100]),
        ("smoothkernels-cnn", [32, 64, 1024, 10]),
        ("alexnet-cifar10", [64, 192, 384, 256, 256, 4096, 4096, 10]),
        ("cnn7-mnist", [32, 32, 64, 64, 200, 200, 10]),
        ("cnn7-cifar10", [64, 64, 128, 128, 256, 256, 10]),
        ("cnn7-std-cifar10", [64, 64, 128, 128, 256, 256, 10]),
        ("cnn7-bn-mnist", [32, 32, 64, 64, 200, 200, 10]),
        ("cnn7-bn-cifar10", [64, 64, 128, 128, 256, 256, 10]),
    ],
)
def test_a_sequential_network_has_the_papers_widths(name: str, widths: list[int]) -> None:
    """Moments, section 4; SGR, appendix 7.4, table 3."""
    found = [m.weight.shape[0] for m in network(name).children() if isinstance(m, nn.Conv2d | nn.Linear)]
    assert found == widths


@pytest.mark.parametrize(
    ("name", "values"),
    [("moments-lenet-mnist", 3136), ("moments-lenet-cifar10", 4096), ("alexnet-cifar10", 256)],
)
def test_the_first_dense_layer_takes_what_moments_says(name: str, values: int) -> None:
    """Moments, section 4, which also has each network begin with a convolution followed by ReLU."""
    assert next(m for m in network(name).children() if isinstance(m, nn.Linear)).in_features == values
    assert layers(name)[:2] == ["Conv2d", "ReLU"]
    assert "Dropout" not in layers(name)


@pytest.mark.parametrize("name", ["moments-lenet-mnist", "moments-lenet-cifar10", "alexnet-cifar10"])
def test_every_pooling_of_moments_but_the_first_stands_before_its_relu(name: str) -> None:
    found = layers(name)
    first, *others = [k for k, layer in enumerate(found) if layer == "MaxPool2d"]
    assert found[first - 1] == "ReLU"
    assert [(found[k - 1], found[k + 1]) for k in others] == [("Conv2d", "ReLU")] * len(others)


def test_moments_lenet_is_lenet_but_for_the_order_of_layers() -> None:
    madry = ARCHITECTURES["lenet"].network().eval()
    madry.load_state_dict(network("moments-lenet-mnist").state_dict())
    with torch.no_grad():
        assert torch.equal(madry(images("lenet")), network("moments-lenet-mnist")(images("lenet")))


def test_standardisation_is_that_of_each_image_by_itself() -> None:
    """Zero mean, unit variance, free of brightness and contrast, whatever shares the batch; no weights of its own."""
    layer = PerImageStandardisation()
    pixels = images("cnn7-std-cifar10", 4).double()
    found = layer(pixels)
    expected = (pixels.numpy() - pixels.mean((1, 2, 3), keepdim=True).numpy()) / pixels.numpy().std(
        (1, 2, 3), keepdims=True
    )
    torch.testing.assert_close(found, torch.from_numpy(expected))
    torch.testing.assert_close(layer(0.2 + 0.5 * pixels), found)
    torch.testing.assert_close(layer(pixels[1:2]), found[1:2])
    assert network("cnn7-std-mnist").state_dict().keys() == network("cnn7-mnist").state_dict().keys()


@pytest.mark.parametrize("value", [0.0, 0.3, 1.0])
def test_an_image_of_one_value_is_standardised_to_zero_with_a_finite_gradient(value: float) -> None:
    constant = torch.full((1, 3, 32, 32), value, requires_grad=True)
    assert PerImageStandardisation()(constant).abs().max() < 1e-4
    logits = network("cnn7-std-cifar10")(constant)
    (gradient,) = torch.autograd.grad(logits[0, 0], constant)
    assert logits.isfinite().all()
    assert gradient.isfinite().all()
    assert gradient.abs().max() > 0


@pytest.mark.parametrize("method", [IBP(norm="linf"), CROWN(norm="linf"), Lipschitz(norm="l2")])
def test_no_proof_goes_through_a_standardisation(method: Certificate) -> None:
    """It is no affine map: to pass it over would be a wrong proof."""
    with pytest.raises(UserError, match=r"(?i)expected"):
        method(network("cnn7-std-mnist"), images("cnn7-std-mnist"), torch.tensor([0, 1]))


def test_batch_normalisation_stands_between_a_convolution_and_its_relu() -> None:
    plain, normalised = layers("cnn7-cifar10"), layers("cnn7-bn-cifar10")
    assert [layer for layer in normalised if layer != "BatchNorm2d"] == plain
    at = [k for k, layer in enumerate(normalised) if layer == "BatchNorm2d"]
    assert [(normalised[k - 1], normalised[k + 1]) for k in at] == [("Conv2d", "ReLU")] * 4


def test_resnext34_has_34_layers_with_weights() -> None:
    weighted = [m for m in network("resnext34-2x32").modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    # The two branches of the fifteen blocks are side by side.
    assert len(weighted) - 2 * 15 == 34
    assert [m.bias is None for m in weighted] == [True] * (len(weighted) - 1) + [False]


def parameters(prefix: str, *convolutions: str, norms: tuple[str, ...] = ()) -> set[str]:
    kinds = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
    return {f"{prefix}{c}.weight" for c in convolutions} | {f"{prefix}{n}.{kind}" for n in norms for kind in kinds}


def test_resnet50_has_torchvisions_names() -> None:
    names = parameters("", "conv1", "fc", norms=("bn1",)) | {"fc.bias"}
    for stage, blocks in enumerate((3, 4, 6, 3), start=1):
        for block in range(blocks):
            prefix = f"layer{stage}.{block}."
            names |= parameters(prefix, "conv1", "conv2", "conv3", norms=("bn1", "bn2", "bn3"))
            names |= parameters(prefix, "downsample.0", norms=("downsample.1",)) if block == 0 else set()
    state = network("resnet50").state_dict()
    assert state.keys() == names
    assert len(state) == 320
    assert state["layer2.0.conv2.weight"].shape == (128, 128, 3, 3)
    assert state["layer4.0.downsample.0.weight"].shape == (2048, 1024, 1, 1)
    assert network("resnet50").get_submodule("layer3.0.conv2").stride == (2, 2)


def test_wrn_28_10_has_the_names_of_public_checkpoints() -> None:
    names = parameters("", "conv1", "fc", norms=("bn1",)) | {"fc.bias"}
    for stage in (1, 2, 3):
        for block in range(4):
            names |= parameters(f"block{stage}.layer.{block}.", "conv1", "conv2", norms=("bn1", "bn2"))
        names.add(f"block{stage}.layer.0.convShortcut.weight")
    state = network("wrn-28-10").state_dict()
    assert state.keys() == names
    assert state["block3.layer.0.convShortcut.weight"].shape == (640, 320, 1, 1)
