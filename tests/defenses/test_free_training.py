"""Free training against a plain loop: the weights, the perturbation, and what carries over."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from defending import F64, a_batch, begun, conv_net
from robusteval.defenses.base import Batch, Carried
from robusteval.defenses.free_training import FreeTraining

RATE, BUDGET = 0.5, 0.07


def replayed(network: nn.Module, batches: list[Batch], replays: int) -> list[Carried]:
    """As the training loop does it: the states after each update."""
    defense, optimizer = FreeTraining(budget=BUDGET, replays=replays), torch.optim.SGD(network.parameters(), RATE)
    states = [begun(defense, network, batches[0])]
    assert defense.updates == replays
    for batch in batches:
        for _ in range(defense.updates):
            optimizer.zero_grad()
            states.append(defense.backward(network, batch, states[-1])[1])
            optimizer.step()
    return states


def by_hand(network: nn.Module, batches: list[Batch], replays: int) -> Tensor:
    """Shafahi et al. 2019, algorithm 1: one gradient for the weights and for the perturbation, (5, 1, 4, 4)."""
    delta = torch.zeros(5, 1, 4, 4, dtype=F64)
    for batch in batches:
        n = len(batch.pixels)
        for _ in range(replays):
            x = (batch.pixels + delta[:n]).clamp(0, 1).requires_grad_()
            loss = -network(x).log_softmax(1)[range(n), batch.labels].mean()
            weights = list(network.parameters())
            gradients = torch.autograd.grad(loss, [x, *weights])
            with torch.no_grad():
                for weight, gradient in zip(weights, gradients[1:], strict=True):
                    weight.sub_(RATE * gradient)
                delta[:n] = (delta[:n] + BUDGET * gradients[0].sign()).clamp(-BUDGET, BUDGET)
    return delta


def agree(batches: list[Batch], replays: int) -> None:
    network, plain = conv_net(), conv_net()
    states, delta = replayed(network, batches, replays), by_hand(plain, batches, replays)
    for a, b in zip(network.parameters(), plain.parameters(), strict=True):
        assert torch.allclose(a, b, rtol=0, atol=1e-14)
    assert torch.equal(states[-1]["perturbation"], delta)
    assert delta.abs().max() == BUDGET


def test_replays_of_one_batch_are_those_of_a_plain_loop() -> None:
    agree([a_batch()], 4)


def test_the_perturbation_carries_over_to_the_next_batches() -> None:
    agree([a_batch(seed=s) for s in range(3)], 2)


def test_a_smaller_batch_moves_its_rows_and_the_others_wait_for_the_next() -> None:
    last = a_batch(seed=1)
    last = Batch(last.pixels[:2], last.labels[:2], last.generator)
    agree([a_batch(), last, a_batch(seed=2)], 2)
    states = replayed(conv_net(), [a_batch(), last], 1)
    assert torch.equal(states[1]["perturbation"][2:], states[2]["perturbation"][2:])
    assert not torch.equal(states[1]["perturbation"][:2], states[2]["perturbation"][:2])


def test_a_larger_batch_begins_its_new_rows_at_zero() -> None:
    small, large = a_batch(2), a_batch(5, seed=1)
    states = replayed(conv_net(), [small, large], 1)
    assert states[1]["perturbation"].shape == (2, 1, 4, 4)
    assert states[2]["perturbation"].shape == (5, 1, 4, 4)
    agree([small, large], 2)


def test_the_perturbation_stays_in_the_ball() -> None:
    for state in replayed(conv_net(), [a_batch(seed=s) for s in range(3)], 3):
        assert (state["perturbation"].abs() <= BUDGET).all()
