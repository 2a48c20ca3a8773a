"""Networks whose pass back raises, or gives nothing, let no gradient through: whoever asks is told so, in whatever
library the pass back runs."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from attacking import run
from robusteval.attacks.external.foolbox_attacks import FoolboxDDN
from robusteval.core.errors import UnsupportedError
from robusteval.core.images import Images
from robusteval.core.norms import Norm
from robusteval.models.classifier import Classifier
from robusteval.models.making import make_classifier


class _Raising(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        raise ValueError("no way back")


class _Nothing(_Raising):
    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        return None


class _Front(nn.Module):
    def __init__(self, function: type[_Raising]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.function, self.layer = function, nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Any:
        return self.layer(self.function.apply(x).flatten(1))  # type: ignore[no-untyped-call]


def classifier(function: type[_Raising]) -> Classifier:
    return make_classifier("net", _Front(function), (1, 4, 4))


def images(model: Classifier) -> Images:
    pixels = torch.rand(3, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    return Images(("a", "b", "c"), pixels, model.predict(pixels).argmax(1))


@pytest.mark.parametrize("function", [_Raising, _Nothing])
def test_no_gradient_comes_back(function: type[_Raising]) -> None:
    model = classifier(function)
    found = images(model)
    for ask in (lambda: model.gradient(found.pixels, lambda z: z[:, 0]), lambda: model.jacobian(found.pixels)):
        with pytest.raises(UnsupportedError, match="expected a model that lets gradients through, got from net"):
            ask()


@pytest.mark.parametrize("function", [_Raising, _Nothing])
def test_nor_in_another_library(function: type[_Raising]) -> None:
    model = classifier(function)
    with pytest.raises(UnsupportedError, match="expected a model that lets gradients through, got from net"):
        run(FoolboxDDN(norm=Norm.L2, steps=5), model, images(model), None)
