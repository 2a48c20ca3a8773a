"""Gradients and answers that are not finite: zeroed once, counted, and never taken for a class."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from plain_networks import SHAPE, data, linear
from torch import Tensor, nn

from robusteval.attacks.ddn import DDN
from robusteval.attacks.external.foolbox_attacks import FoolboxDDN
from robusteval.attacks.fab import FAB
from robusteval.attacks.judge import judge
from robusteval.attacks.pgd import PGD
from robusteval.attacks.search.losses import margin
from robusteval.attacks.square import Square
from robusteval.core.errors import UnsupportedError
from robusteval.core.images import Images
from robusteval.core.norms import Norm
from robusteval.models.making import make_classifier


class Front(nn.Module):
    def __init__(self, before: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.network, self.before = linear(), before

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.network(self.before(x))
        return logits


class OneWay(torch.autograd.Function):
    """The identity, with no derivative."""

    @staticmethod
    def forward(ctx: object, x: Tensor) -> Tensor:
        return x.clone()


def one_way(x: Tensor) -> Tensor:
    found: Tensor = OneWay.apply(x)  # type: ignore[no-untyped-call]
    return found


def rooted(x: Tensor) -> Tensor:
    return x.sqrt() ** 2


def black() -> tuple[Tensor, Tensor]:
    """Images with black pixels, where the root has no gradient."""
    x, _ = data(linear())
    x[:, :, 1] = 0.0
    return x, linear()(x).argmax(1)


def test_the_gradient_of_the_same_function_but_at_black_pixels() -> None:
    x, _ = black()
    plain, root = (make_classifier("net", Front(f), SHAPE).metered(6) for f in (lambda x: x, rooted))
    expected, found = (m.gradient(x, lambda z: z[:, 0])[0] for m in (plain, root))
    expected[:, :, 1] = 0
    assert torch.allclose(found, expected, atol=1e-5)
    assert root.meter.non_finite_gradients.tolist() == [1.0] * 6
    assert plain.meter.non_finite_gradients.tolist() == [0.0] * 6
    _, jacobian = root.jacobian(x)
    assert jacobian.isfinite().all()
    assert (jacobian[:, :, :, 1] == 0).all()
    asked = x.clone().requires_grad_()
    root.as_module()(asked)[:, 0].sum().backward()
    assert asked.grad is not None
    assert torch.allclose(asked.grad, expected, atol=1e-5)


@pytest.mark.parametrize(
    "attack",
    [PGD(norm=Norm.L2), DDN(norm=Norm.L2), FAB(norm=Norm.L2), FoolboxDDN(norm=Norm.L2, steps=50)],
    ids=lambda a: a.name,
)
def test_attacks_find_what_they_find_without_the_root(attack: PGD) -> None:
    x, y = black()
    budget = 2.0 if attack.fixed_budget else None
    plain, rooted_too = (attack(Front(f), x, y, budget) for f in (lambda x: x, rooted))
    assert rooted_too.success.sum() == plain.success.sum() == 6


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
def test_an_answer_that_is_not_finite_fools_nobody_and_hides_nothing(value: float) -> None:
    """The label's neighbour is reached on a part of the images only: attacks must pass over the rest."""

    def partly(x: Tensor) -> Tensor:
        return torch.where((x[:, :, :1, :1] > 0.5), value, x)

    x, y = data(linear())
    x[:, 0, 0, 0] = 0.3
    y = linear()(x).argmax(1)
    model = make_classifier("net", Front(partly), SHAPE)
    beyond = x.clone()
    beyond[:, 0, 0, 0] = 0.9
    verdict = judge(model, Images(tuple("abcdef"), x, y), beyond, Norm.LINF, None)
    assert not verdict.success.any()
    assert verdict.unanswered.tolist() == [1.0] * 6
    assert (margin(model.predict(beyond), y) == -torch.inf).all()
    for attack in (PGD(norm=Norm.LINF, loss="margin"), Square(norm=Norm.LINF, queries=300)):
        found = attack(Front(partly), x, y, 0.4)
        assert found.success.sum() >= 5, attack.name
        assert model.predict(found.examples).isfinite().all()


@pytest.mark.parametrize(
    "before",
    [lambda x: x.detach(), lambda x: torch.from_numpy(x.numpy()), one_way],
    ids=["detach", "numpy", "no derivative"],
)
def test_a_model_without_gradients_says_so(before: Callable[[Tensor], Tensor]) -> None:
    x, y = data(linear())
    model = make_classifier("net", Front(before), SHAPE)
    with pytest.raises(UnsupportedError, match="expected a model that lets gradients through, got from net"):
        model.gradient(x, lambda z: z[:, 0])
    with pytest.raises(UnsupportedError):
        model.jacobian(x)
    for attack in (PGD(norm=Norm.LINF), FoolboxDDN(norm=Norm.L2, steps=5)):
        with pytest.raises(UnsupportedError, match="lets gradients through"):
            attack(model, x, y, 0.1 if attack.fixed_budget else None)
    assert Square(norm=Norm.LINF, queries=200)(model, x, y, 0.3).success.any()
