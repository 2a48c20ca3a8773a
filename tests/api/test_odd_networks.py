"""Networks as people have them: that raise, that give no finite logits, of another type, of TorchScript."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from plain_networks import SHAPE, data, linear
from torch import Tensor, nn

from robusteval import UserError, make_classifier
from robusteval.attacks.pgd import PGD
from robusteval.certify.propagation.crown import CROWN
from robusteval.core.norms import Norm
from robusteval.metrics.noise import NoiseRobustness


class Forward(nn.Module):
    """Answers as a function of a network and images says."""

    def __init__(self, answer: Callable[[nn.Module, Tensor], Tensor]) -> None:
        super().__init__()
        self.network, self.answer = linear(), answer

    def forward(self, x: Tensor) -> Tensor:
        return self.answer(self.network, x)


def raising(error: Exception) -> Forward:
    def answer(network: nn.Module, x: Tensor) -> Tensor:
        raise error

    return Forward(answer)


@pytest.mark.parametrize(
    ("network", "words"),
    [
        *(
            (raising(error), f"an error from the network: {text}$")
            for error, text in (
                (AttributeError("no layer"), "no layer"),
                (TypeError("two\nlines"), "two"),
                (IndexError("out of range"), "out of range"),
                (AssertionError(), "AssertionError"),
                (NotImplementedError(), "NotImplementedError"),
            )
        ),
        (lambda x: x, "expected a torch.nn.Module for the network, got function"),
        (nn.Sequential(nn.Flatten(), nn.LazyLinear(5)), "uninitialized parameter"),
    ],
)
def test_a_network_that_fails_is_one_line(network: nn.Module, words: str) -> None:
    x, y = data(linear())
    with pytest.raises(UserError, match=words) as caught:
        PGD(norm=Norm.LINF)(network, x, y, budget=0.1)
    assert "\n" not in str(caught.value)


def test_no_image_seems_robust_because_its_logits_are_not_finite() -> None:
    x, y = data(linear())
    x[2] = 0.25
    network = Forward(lambda inner, x: inner(x).masked_fill((x == 0.25).flatten(1).all(1)[:, None], torch.nan))
    for method in (PGD(norm=Norm.LINF), CROWN(norm=Norm.LINF), NoiseRobustness(sigmas=(0.1,), samples=2)):
        with pytest.raises(
            UserError, match="expected finite logits from the network, got NaN or infinity on image 000002"
        ):
            method(network, x, y)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_the_type_of_the_network_is_not_that_of_the_images(dtype: torch.dtype) -> None:
    network = linear().to(dtype)
    x, y = data(linear())
    for pixels in (x, x.double()):
        found = PGD(norm=Norm.LINF)(network, pixels, y, budget=0.3)
        assert found.examples.dtype == pixels.dtype
        assert found.success.all()
    assert make_classifier("net", network, SHAPE).dtype == dtype


@pytest.mark.parametrize("double", [False, True])
def test_a_float64_network_keeps_its_precision(double: bool) -> None:
    network = linear().double()
    classifier = make_classifier("net", network, SHAPE)
    x, _ = data(linear())
    dtype = torch.float64 if double else torch.float32
    placed = classifier.to("cpu", dtype)
    exact = network(x.double())
    assert torch.equal(placed(x.to(dtype)).double(), exact) is double
    torch.testing.assert_close(placed(x.to(dtype)).double(), exact, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("program", [torch.jit.script, lambda net: torch.jit.trace(net, torch.rand(2, *SHAPE))])
def test_a_torchscript_program_is_copied_too(program: Callable[[nn.Module], nn.Module]) -> None:
    plain, scripted = linear(), program(linear())
    x, y = data(plain)
    found, expected = (PGD(norm=Norm.LINF)(net, x, y, budget=0.1) for net in (scripted, plain))
    torch.testing.assert_close(found.examples, expected.examples)
    assert all(p.requires_grad for p in scripted.parameters())
