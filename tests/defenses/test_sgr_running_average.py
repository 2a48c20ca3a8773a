"""Sigma's running average (SGR Eq. 14): its weights, what it is of, and when it moves."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from torch import Tensor

from defending import F64, a_batch, begun, conv_net, linear, pixel_gradients
from robusteval.core.norms import Norm
from robusteval.defenses.base import Carried
from robusteval.defenses.second_moments import expanded
from robusteval.defenses.sgr import SGR

CLOSE = 1e-12


def normed(xi: Tensor) -> Tensor:
    """Rows with a mean square of one."""
    flat = xi.flatten(1)
    return flat / flat.square().mean().sqrt()


def states(defense: SGR, updates: int) -> list[Carried]:
    """The state at the beginning and after each update, each on a batch of its own, the weights as they are."""
    network = conv_net()
    found = [begun(defense, network, a_batch())]
    for k in range(updates):
        found.append(defense.objective(network, a_batch(seed=k), found[-1])[1])
    return found


@pytest.mark.parametrize("source", ["gradients", "signs"])
def test_after_k_updates_it_is_the_exponentially_weighted_mean(source: str) -> None:
    defense = SGR.model_validate({"source": source, "representation": "matrix", "beta": 0.3})
    last = states(defense, 4)[-1]
    gradients = [pixel_gradients(conv_net(), a_batch(seed=k)) for k in range(4)]
    rows = [normed(g.sign() if source == "signs" else g) for g in gradients]
    weights = [0.3 * 0.7 ** (3 - k) for k in range(4)]
    sigma = 0.7**4 * torch.eye(16, dtype=F64)
    for weight, xi in zip(weights, rows, strict=True):
        sigma = sigma + weight * xi.T @ xi / len(xi)
    mean = sum((w * xi.mean(0) for w, xi in zip(weights, rows, strict=True)), start=torch.zeros(16, dtype=F64))
    assert torch.allclose(last["sigma"], sigma, rtol=0, atol=CLOSE)
    assert torch.allclose(last["mean"].flatten(), mean, rtol=0, atol=CLOSE)


@pytest.mark.parametrize("source", ["gradients", "signs", "pgd"])
def test_the_mean_diagonal_entry_stays_one(source: str) -> None:
    for representation in ("functions", "matrix"):
        defense = SGR.model_validate({"source": source, "representation": representation})
        for state in states(defense, 3):
            sigma = state["sigma"] if representation == "matrix" else expanded(state["sigma"], (1, 4, 4))
            assert float(sigma.diagonal().mean()) == pytest.approx(1, abs=CLOSE)


def test_it_moves_at_every_so_many_updates_only() -> None:
    after = states(SGR(every=3), 7)
    moved = [not torch.equal(a["sigma"], b["sigma"]) for a, b in pairwise(after)]
    assert moved == [True, False, False, True, False, False, True]
    assert [int(state["count"]) for state in after] == list(range(8))


@pytest.mark.parametrize("source", ["lrc", "images", "identity"])
def test_a_fixed_one_never_moves(source: str) -> None:
    after = states(SGR.model_validate({"source": source}), 2)
    assert torch.equal(after[0]["sigma"], after[2]["sigma"])


def test_with_all_weight_on_the_batch_it_is_of_the_perturbations_that_raise_the_loss_in_the_ball() -> None:
    """PGD's, whose pixels reach the budget; before it is rescaled the root mean square is below that."""
    defense = SGR(source="pgd", representation="matrix", beta=1.0, budget=0.01)
    network, batch = conv_net(), a_batch()
    xi = defense._perturbations(network, batch, pixel_gradients(network, batch))
    assert Norm.LINF.size(xi).max() <= 0.01 + 1e-15
    assert ((pixel_gradients(network, batch) * xi).flatten(1).sum(1) > 0).all()
    _, after = defense.objective(network, a_batch(), begun(defense, network, a_batch()))
    rows = normed(xi)
    assert torch.allclose(after["sigma"], rows.T @ rows / len(rows), rtol=0, atol=CLOSE)


def test_a_batch_without_gradients_leaves_it_as_it_is() -> None:
    network = conv_net()
    with torch.no_grad():
        linear(network, 3).weight.zero_()
    state = begun(SGR(), network, a_batch())
    _, after = SGR().objective(network, a_batch(), state)
    assert torch.equal(after["sigma"], state["sigma"])
    assert torch.equal(after["mean"], state["mean"])
    assert int(after["count"]) == 1
