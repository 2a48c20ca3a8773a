"""Features are what the last Linear takes that was executed and that the logits follow from, however it was written."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from robusteval.core.errors import UnsupportedError
from robusteval.models.classifier import Classifier
from robusteval.models.feature_layer import FeatureLayer
from robusteval.models.making import make_classifier

SHAPE = (1, 4, 4)
WIDTH, CLASSES = 6, 3


def pixels(n: int = 5) -> Tensor:
    return torch.rand(n, *SHAPE, generator=torch.Generator().manual_seed(1))


class Net(nn.Module):
    """A body 16 -> 6 and a head 6 -> 3, registered in some order beside other layers, and what is done with them."""

    def __init__(self, forward: Callable[[Net, Tensor], Tensor], *names: str, **others: nn.Module) -> None:
        super().__init__()
        torch.manual_seed(0)
        layers = {"head": nn.Linear(WIDTH, CLASSES), "body": nn.Linear(16, WIDTH), **others}
        for name in names or tuple(layers):
            self.add_module(name, layers[name])
        self.weight = nn.Parameter(torch.randn(CLASSES, WIDTH))
        self.does = forward

    def hidden(self, x: Tensor) -> Tensor:
        found: Tensor = self.get_submodule("body")(x.flatten(1)).relu()
        return found

    def forward(self, x: Tensor) -> Tensor:
        return self.does(self, x)


def plain(net: Net, x: Tensor) -> Tensor:
    logits: Tensor = net.get_submodule("head")(net.hidden(x))
    return logits


def two_heads(net: Net, x: Tensor) -> Tensor:
    h = net.hidden(x)
    logits: Tensor = net.get_submodule("head")(h)
    net.get_submodule("other")(h.tanh())
    return logits


def rescaled(net: Net, x: Tensor) -> Tensor:
    return (plain(net, x) / 2).relu_().log_softmax(1)


def rounded_body(net: Net, x: Tensor) -> Tensor:
    return plain(net, (x * 4).round().detach() / 4)


CASES: dict[str, tuple[Net, str]] = {
    "the head registered first": (Net(plain, "head", "body"), "head"),
    "the head registered last": (Net(plain, "body", "head"), "head"),
    "an unused head behind": (Net(plain, projection=nn.Linear(WIDTH, 2)), "head"),
    "a second head that is executed last and given to nobody": (Net(two_heads, other=nn.Linear(WIDTH, 2)), "head"),
    "what becomes of the logits later": (Net(rescaled), "head"),
    "an input without gradients": (Net(rounded_body), "head"),
}


@pytest.mark.parametrize(("net", "name"), CASES.values(), ids=CASES)
def test_the_features_are_what_the_last_executed_head_takes(net: Net, name: str) -> None:
    model = make_classifier("net", net, SHAPE)
    assert model.feature_layer() == FeatureLayer(f"network.{name}", 0)
    x = (pixels() * 4).round() / 4
    torch.testing.assert_close(model.features(x), net.hidden(x))
    head = model.module.get_submodule("network.head")
    assert not head._forward_hooks
    assert not head._forward_pre_hooks


def test_nested_modules_have_their_whole_name() -> None:
    net = nn.ModuleDict({"trunk": nn.Sequential(nn.Flatten(), nn.Sequential(nn.Linear(16, 5), nn.ReLU()))})

    class Nested(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.last, self.net = nn.Sequential(nn.Identity(), nn.Linear(5, 3)), net

        def forward(self, x: Tensor) -> Tensor:
            logits: Tensor = self.last(self.net["trunk"](x))
            return logits

    model = make_classifier("nested", Nested(), SHAPE)
    assert model.feature_layer().name == "network.last.1"
    torch.testing.assert_close(model.features(pixels()), net["trunk"](pixels()))


def test_of_a_layer_that_is_called_twice_it_is_the_last_call() -> None:
    shared = nn.Linear(16, 16)
    model = make_classifier("shared", nn.Sequential(nn.Flatten(), shared, nn.Tanh(), shared), SHAPE)
    assert model.feature_layer().call == 1
    torch.testing.assert_close(model.features(pixels()), shared(pixels().flatten(1)).tanh())


def scripted() -> nn.Module:
    program: nn.Module = torch.jit.script(nn.Sequential(nn.Flatten(), nn.Linear(16, 3)))
    return program


def gated() -> nn.Module:
    class Gated(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.gate, self.conv = nn.Linear(16, 16), nn.Conv2d(1, 3, 1)

        def forward(self, x: Tensor) -> Tensor:
            gate = self.gate(x.flatten(1)).sigmoid().view_as(x)
            logits: Tensor = self.conv(x * gate).mean((2, 3))
            return logits

    return Gated()


NONE: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "TorchScript": (scripted, "which executes none"),
    "a convolution alone": (lambda: nn.Sequential(nn.Conv2d(1, 3, 4), nn.Flatten()), "which executes none"),
    "a convolution behind a Linear": (gated, "a convolution after the last of them, 'network.gate'"),
    "functional alone": (
        lambda: Net(lambda net, x: functional.linear(x.flatten(1)[:, :WIDTH], net.weight)),
        "which executes none",
    ),
    "functional behind a Linear": (
        lambda: Net(lambda net, x: functional.linear(net.hidden(x), net.weight)),
        "after the last of them, 'network.body'",
    ),
    "by hand behind a Linear": (
        lambda: Net(lambda net, x: net.hidden(x) @ net.weight.T),
        "a product of matrices after the last of them, 'network.body'",
    ),
    "used for nothing": (
        lambda: Net(lambda net, x: net.hidden(x).detach()[:, :2] * 0 + x.flatten(1)[:, :2]),
        "whose logits follow from none",
    ),
}


@pytest.mark.parametrize(("net", "message"), NONE.values(), ids=NONE)
def test_without_such_a_layer_it_says_so_in_a_line(net: Callable[[], nn.Module], message: str) -> None:
    model: Classifier = make_classifier("odd", net(), SHAPE)
    with pytest.raises(UnsupportedError, match=message) as caught:
        model.features(pixels())
    assert "\n" not in str(caught.value)
    assert "expected a network that ends in torch.nn.Linear to read features from, got" in str(caught.value)


def test_a_network_that_takes_another_way_on_other_images_is_refused() -> None:
    class Branching(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.dark, self.bright = nn.Linear(16, 3), nn.Linear(16, 3)

        def forward(self, x: Tensor) -> Tensor:
            logits: Tensor = (self.bright if x.mean() > 0.8 else self.dark)(x.flatten(1))
            return logits

    model = make_classifier("branching", Branching(), SHAPE)
    assert model.feature_layer().name == "network.dark"
    with pytest.raises(UnsupportedError, match=r"expected one row of features an image from 'network\.dark'"):
        model.features(torch.ones(2, *SHAPE))
