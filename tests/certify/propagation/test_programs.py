"""Proofs pass through programs of torch.export and TorchScript, and through functions with weights, as through the
network that they were made of."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from propagating import NETWORKS, SHAPE, images_for, proven, small
from robusteval.core.errors import UnsupportedError
from robusteval.core.norms import Norm
from robusteval.models.checkpoints import open_checkpoint
from robusteval.models.classifier import Classifier
from robusteval.models.making import make_classifier

Save = Callable[[nn.Module, Path], None]


def exported(network: nn.Module, path: Path) -> None:
    sizes = ({0: torch.export.Dim("batch")},)
    torch.export.save(torch.export.export(network, (torch.rand(3, *SHAPE),), dynamic_shapes=sizes), path)


def scripted(network: nn.Module, path: Path) -> None:
    torch.jit.save(torch.jit.script(network), path)


def traced(network: nn.Module, path: Path) -> None:
    torch.jit.save(torch.jit.trace(network, torch.rand(3, *SHAPE)), path)


PROGRAMS = [(exported, ".pt2", name) for name in NETWORKS] + [(traced, ".ts", name) for name in NETWORKS]
# Scripted, the checks of sizes in adaptive pooling and BatchNorm1d are branches.
PROGRAMS += [(scripted, ".ts", name) for name in ("residual", "branches")]


@pytest.mark.parametrize(("save", "suffix", "name"), PROGRAMS)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_program_has_the_radii_of_its_network(tmp_path: Path, name: str, save: Save, suffix: str) -> None:
    own = small(name)
    path = tmp_path / f"net{suffix}"
    save(own.module.network, path)  # type: ignore[arg-type]
    opened = open_checkpoint(path, input_shape=SHAPE, mean=own.mean, std=own.std, trusted=(path,))
    images = images_for(own, 3)
    torch.testing.assert_close(opened(images.pixels), own(images.pixels))
    expected = proven("crown", Norm.LINF, own, images)
    assert (expected > 0).any()
    torch.testing.assert_close(proven("crown", Norm.LINF, opened, images), expected, rtol=0.02, atol=1e-7)
    _, jacobian = opened.jacobian(images.pixels)
    torch.testing.assert_close(jacobian, own.jacobian(images.pixels)[1])


def test_features_are_read_from_the_last_linear_layer_of_an_exported_program(tmp_path: Path) -> None:
    own, path = small("dense"), tmp_path / "net.pt2"
    exported(own.module.network, path)  # type: ignore[arg-type]
    opened = open_checkpoint(path, input_shape=SHAPE, mean=own.mean, std=own.std, trusted=(path,))
    pixels = images_for(own, 3).pixels
    torch.testing.assert_close(opened.features(pixels), own.features(pixels))


class Functional(nn.Module):
    """Every layer as a function of weights."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.kernel = nn.Parameter(torch.randn(3, 2, 3, 3) / 3)
        self.mean, self.var = nn.Buffer(torch.rand(3) - 0.5), nn.Buffer(0.5 + torch.rand(3))
        self.weight = nn.Parameter(torch.randn(4, 27) / 5)
        self.shift = nn.Parameter(torch.randn(4) / 5)
        self.last = nn.Parameter(torch.randn(4, 4) / 2)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.conv2d(x, self.kernel, padding=1, stride=2)
        x = functional.batch_norm(x, self.mean, self.var).clamp(min=0)
        x = functional.max_pool2d(x, kernel_size=2, stride=1).flatten(1)
        x = torch.clamp(functional.linear(x, self.weight / 2, self.shift), min=0)
        return torch.addmm(self.shift, x, self.last) @ self.last


class Layers(nn.Module):
    """The same with layers."""

    def __init__(self, own: Functional) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 3, 3, padding=1, stride=2, bias=False)
        self.norm = nn.BatchNorm2d(3, affine=False)
        self.middle, self.first, self.last = nn.Linear(27, 4), nn.Linear(4, 4), nn.Linear(4, 4, bias=False)
        with torch.no_grad():
            self.conv.weight.copy_(own.kernel)
            self.middle.weight.copy_(own.weight / 2)
            self.middle.bias.copy_(own.shift)
            self.first.weight.copy_(own.last.T)
            self.first.bias.copy_(own.shift)
            self.last.weight.copy_(own.last.T)
        assert self.norm.running_mean is not None
        assert self.norm.running_var is not None
        self.norm.running_mean.copy_(own.mean)
        self.norm.running_var.copy_(own.var)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.relu(self.norm(self.conv(x)))
        x = functional.relu(self.middle(functional.max_pool2d(x, 2, 1).flatten(1)))
        logits: Tensor = self.last(self.first(x))
        return logits


def of(network: nn.Module) -> Classifier:
    return make_classifier(type(network).__name__, network, SHAPE)


@pytest.mark.parametrize("name", ["crown", "ibp"])
def test_functions_with_weights_are_read_as_layers(name: str) -> None:
    functions = Functional()
    own, layers = of(functions), of(Layers(functions))
    images = images_for(own, 4)
    torch.testing.assert_close(layers(images.pixels), own(images.pixels))
    expected = proven(name, Norm.LINF, layers, images)
    assert (expected > 0).any()
    torch.testing.assert_close(proven(name, Norm.LINF, own, images), expected, rtol=0.02, atol=1e-7)


class Branching(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(128, 3)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.linear(x.flatten(1))
        return -logits if bool(logits.sum() > 0) else logits


def test_a_program_with_branches_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "net.ts"
    scripted(Branching().eval(), path)
    opened = open_checkpoint(path, input_shape=SHAPE, trusted=(path,))
    with pytest.raises(UnsupportedError, match="branches"):
        proven("crown", Norm.LINF, opened, images_for(opened, 2))
