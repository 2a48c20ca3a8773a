"""A classifier that is given a few images at a time gives the same answers, gradients, products and features."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from robusteval.models.classifier import Classifier
from robusteval.models.making import make_classifier
from robusteval.numerics.jacobian import Linearised, jacobian

SHAPE = (1, 4, 4)


class Counted(nn.Sequential):
    """Keeps how many images it was given."""

    sizes: tuple[int, ...] = ()

    def forward(self, x: Tensor) -> Tensor:
        Counted.sizes += (len(x),)
        y: Tensor = super().forward(x)  # type: ignore[no-untyped-call]
        return y


@pytest.fixture
def classifier() -> Classifier:
    torch.manual_seed(0)
    network = Counted(nn.Conv2d(1, 3, 3), nn.Tanh(), nn.Flatten(), nn.Linear(12, 6), nn.Softplus(), nn.Linear(6, 4))
    made = make_classifier("small", network.double(), SHAPE)
    Counted.sizes = ()
    return made


@pytest.fixture
def pixels() -> Tensor:
    return torch.rand(7, *SHAPE, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def margin(logits: Tensor) -> Tensor:
    return logits[:, 0] - logits[:, 1].exp()


@pytest.mark.parametrize("size", [1, 2, 3, 7])
def test_everything_is_the_same(classifier: Classifier, pixels: Tensor, size: int) -> None:
    whole, few = classifier.metered(7), replace(classifier.metered(7), at_once=size)
    torch.testing.assert_close(few(pixels), whole(pixels))
    for one, other in zip(few.gradient(pixels, margin), whole.gradient(pixels, margin), strict=True):
        torch.testing.assert_close(one, other)
    for one, other in zip(few.jacobian(pixels), whole.jacobian(pixels), strict=True):
        torch.testing.assert_close(one, other)
    torch.testing.assert_close(few.features(pixels), whole.features(pixels))
    torch.testing.assert_close(jacobian(few.features, pixels), jacobian(whole.features, pixels))
    assert torch.equal(few.meter.forwards, whole.meter.forwards)
    assert torch.equal(few.meter.backwards, whole.meter.backwards)
    v = torch.rand(7, 2, 16, dtype=torch.float64)
    u = torch.rand(7, 2, 4, dtype=torch.float64)
    torch.testing.assert_close(Linearised(few, pixels).push(v), Linearised(whole, pixels).push(v))
    torch.testing.assert_close(Linearised(few, pixels).pull(u), Linearised(whole, pixels).pull(u))


def test_the_network_never_sees_more(classifier: Classifier, pixels: Tensor) -> None:
    few = replace(classifier, at_once=3)
    few.gradient(pixels, margin)
    few.features(pixels)
    few.predict(pixels)
    few.as_module()(pixels.requires_grad_()).sum().backward()
    assert max(Counted.sizes) == 3


def test_a_graph_of_all_images_is_never_kept(classifier: Classifier, pixels: Tensor) -> None:
    """Counted by what autograd saves for the way back."""

    def saved(model: Classifier) -> int:
        numbers = 0

        def pack(tensor: Tensor) -> Tensor:
            nonlocal numbers
            numbers += tensor.numel() if tensor.shape[:1] == (7,) or tensor.dim() != 4 else 0
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            model(pixels.clone().requires_grad_())
        return numbers

    assert saved(replace(classifier, at_once=1)) < saved(classifier) / 2


def test_random_numbers_are_those_of_the_first_time(pixels: Tensor) -> None:
    """Dropout that is on: the gradient belongs to the answer that was given."""

    class Dropped(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            y: Tensor = nn.functional.dropout(x.flatten(1), 0.5, training=True)[:, :3]
            return y

    model = replace(make_classifier("random", nn.Sequential(Dropped()), SHAPE), at_once=2)
    x = pixels.float().requires_grad_()
    logits = model(x)
    (gradient,) = torch.autograd.grad(logits.sum(), x)
    kept = logits.detach() != 0
    assert torch.equal(gradient.flatten(1)[:, :3] != 0, kept)
    assert 0 < kept.sum() < kept.numel()
