"""TRADES and logit pairing: their divergence by hand, and which way round it goes."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from defending import F64, a_batch, conv_net
from robusteval.defenses.logit_pairing import LogitPairing
from robusteval.defenses.pairing import divergence
from robusteval.defenses.trades import Trades


def kl(p: list[float], q: list[float]) -> float:
    return sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))


def test_the_divergence_by_hand_is_not_symmetric() -> None:
    p, q = [0.5, 0.25, 0.25], [0.1, 0.2, 0.7]
    of, approximated = (torch.tensor([v], dtype=F64).log() + 3 for v in (p, q))
    assert divergence(of, approximated).item() == pytest.approx(kl(p, q), rel=1e-14)
    assert divergence(approximated, of).item() == pytest.approx(kl(q, p), rel=1e-14)
    assert divergence(of, of).item() == 0


def inputs_of(defense: Trades | LogitPairing) -> tuple[float, list[Tensor]]:
    """The loss, and the images that the network saw, in order."""
    network, seen = conv_net(), list[Tensor]()
    hook = network.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].detach()))
    loss, _ = defense.objective(network, a_batch(), {})
    hook.remove()
    return loss.item(), seen


def ce(pixels: Tensor) -> float:
    return functional.cross_entropy(conv_net()(pixels), a_batch().labels).item()


def mean_kl(of: Tensor, approximated: Tensor) -> float:
    p, q = (conv_net()(x).softmax(1).tolist() for x in (of, approximated))
    return sum(kl(a, b) for a, b in zip(p, q, strict=True)) / len(p)


def test_trades_is_clean_cross_entropy_and_gamma_times_the_divergence_of_perturbed_from_clean() -> None:
    loss, seen = inputs_of(Trades(budget=0.2, gamma=7.0, steps=3))
    x = a_batch().pixels
    assert loss == pytest.approx(ce(x) + 7 * mean_kl(x, seen[-1]), rel=1e-12)
    assert abs(mean_kl(x, seen[-1]) - mean_kl(seen[-1], x)) > 1e-9  # the order could be told


def test_logit_pairing_is_adversarial_cross_entropy_and_gamma_times_the_divergence_of_clean_from_perturbed() -> None:
    loss, seen = inputs_of(LogitPairing(budget=0.2, gamma=7.0, steps=3))
    x, moved = a_batch().pixels, seen[-2]
    assert torch.equal(seen[-1], x)
    assert loss == pytest.approx(ce(moved) + 7 * mean_kl(moved, x), rel=1e-12)
    assert abs(mean_kl(x, moved) - mean_kl(moved, x)) > 1e-9


def test_trades_climbs_the_divergence_and_logit_pairing_the_cross_entropy() -> None:
    x = a_batch().pixels
    _, by_trades = inputs_of(Trades(budget=0.2, steps=10))
    _, by_pairing = inputs_of(LogitPairing(budget=0.2, steps=10))
    start = by_trades[1]
    assert torch.equal(start, by_pairing[0])
    assert mean_kl(x, by_trades[-1]) > mean_kl(x, start)
    assert ce(by_pairing[-2]) > ce(start)
    # Labels are random here, so that what raises the cross-entropy is not what raises the divergence most.
    assert mean_kl(x, by_trades[-1]) > mean_kl(x, by_pairing[-2])
    assert ce(by_pairing[-2]) > ce(by_trades[-1])
