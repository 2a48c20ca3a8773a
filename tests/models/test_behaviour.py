"""Whether a model is a function of the image: what is found of random and batch-dependent ones; who refuses them."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from plain_networks import SHAPE, data, linear
from torch import Tensor, nn

from robusteval import UserError, make_classifier
from robusteval.certify.propagation.ibp import IBP
from robusteval.certify.smoothing.fixed import Smoothing
from robusteval.core.norms import Norm
from robusteval.models.averaged import averaged
from robusteval.models.behaviour import Traits, observe


class Before(nn.Module):
    def __init__(self, change: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.network, self.change = linear(), change

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.network(self.change(x))
        return logits


def same(x: Tensor) -> Tensor:
    return x


def dropout(x: Tensor) -> Tensor:
    return nn.functional.dropout(x, 0.3, True)


def statistics(x: Tensor) -> Tensor:
    return nn.functional.batch_norm(x, None, None, training=True)


def in_twos(x: Tensor) -> Tensor:
    if len(x) < 2:
        raise ValueError("no single images")
    return x - x.mean(0)


own = torch.Generator().manual_seed(0)


def unseedable(x: Tensor) -> Tensor:
    return x + 0.1 * torch.rand(x.shape, generator=own)


TRAITS: dict[Callable[[Tensor], Tensor], Traits] = {
    same: Traits(random=False, seedable=True, batch_dependent=False, single=True),
    dropout: Traits(random=True, seedable=True, batch_dependent=False, single=True),
    unseedable: Traits(random=True, seedable=False, batch_dependent=False, single=True),
    statistics: Traits(random=False, seedable=True, batch_dependent=True, single=True),
}


@pytest.mark.parametrize("change", TRAITS)
@pytest.mark.parametrize("count", [1, 6])
def test_traits(change: Callable[[Tensor], Tensor], count: int) -> None:
    x, _ = data(linear())
    model = make_classifier("net", Before(change), SHAPE)
    assert observe(model, x[:count]).traits == TRAITS[change]


def test_an_image_of_a_model_that_depends_on_the_batch_is_evaluated_by_itself() -> None:
    x, _ = data(linear())
    model = make_classifier("net", Before(statistics), SHAPE)
    alone = torch.cat([model.predict(image[None]) for image in x])
    assert not torch.allclose(model.predict(x), alone)
    assert torch.equal(observe(model, x).traits.served(model).predict(x), alone)


def test_a_seed_changes_nothing_outside() -> None:
    x, _ = data(linear())
    before = torch.random.get_rng_state()
    observe(make_classifier("net", Before(same), SHAPE), x)
    assert torch.equal(torch.random.get_rng_state(), before)


@pytest.mark.parametrize("certificate", [IBP(norm=Norm.LINF), Smoothing(sigma=0.25, n0=10, n=20)], ids=str)
@pytest.mark.parametrize("change", [dropout, statistics, unseedable])
def test_no_bound_speaks_of_what_is_no_function(certificate: IBP, change: Callable[[Tensor], Tensor]) -> None:
    x, y = data(linear())
    with pytest.raises(UserError, match="outputs are a function of the image alone, got the network with"):
        certificate(Before(change), x, y)


def test_the_mean_of_one_outcome_is_that_outcome_and_each_draw_is_counted() -> None:
    x, _ = data(linear())
    model = make_classifier("net", linear(), SHAPE)
    mean = averaged(model.metered(6), 5)
    assert torch.allclose(mean.predict(x), model.predict(x).log_softmax(1), atol=1e-5)
    assert mean.meter.forwards.tolist() == [5.0] * 6
    assert averaged(model, 1) is model


def test_averaging_makes_random_outputs_steadier() -> None:
    """The mean of 100 softmaxes varies a tenth as much as one, up to a factor of two."""
    x, _ = data(linear())
    model = make_classifier("net", Before(dropout), SHAPE)

    def spread(draws: int) -> float:
        answers = torch.stack([averaged(model, draws).predict(x).softmax(1) for _ in range(30)])
        return float(answers.std(0).mean())

    assert spread(100) < 0.2 * spread(1)
