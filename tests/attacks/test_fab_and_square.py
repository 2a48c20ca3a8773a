"""What FAB and Square have in common: images are independent, and there may be nothing to find."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from oracles import affine, random_images, two_layer
from robusteval.attacks.base import Attack
from robusteval.attacks.fab import FAB
from robusteval.attacks.square import Square
from robusteval.core.images import Images
from robusteval.core.norms import BALLS, Norm
from shortest import run, sizes

BOTH: list[Attack] = [
    attack
    for norm in BALLS
    for attack in (
        FAB(norm=norm, iterations=12, restarts=2),
        FAB(norm=norm, iterations=12, restarts=2, targets=2),
        Square(norm=norm, queries=150, restarts=2),
    )
]


@pytest.mark.parametrize("attack", BOTH, ids=lambda a: f"{a.name}-{a.norm.value}")
def test_an_image_alone_gives_the_same_as_in_a_batch(attack: Attack) -> None:
    classifier, _ = two_layer(2)
    images = random_images(2, 8, classifier).to("cpu", torch.float64)
    classifier = classifier.to("cpu", torch.float64)
    budget = torch.linspace(0.02, 0.5, 8, dtype=torch.float64) if attack.fixed_budget else None
    torch.manual_seed(7)
    state = torch.random.get_rng_state()
    together = run(attack, classifier, images, budget)
    assert torch.equal(torch.random.get_rng_state(), state)
    for i in range(len(images)):
        row = torch.tensor([i])
        alone = run(attack, classifier, images.select(row), None if budget is None else budget[row])
        torch.testing.assert_close(alone[0], together[i], rtol=0, atol=1e-9)


@pytest.mark.parametrize("attack", BOTH, ids=lambda a: f"{a.name}-{a.norm.value}")
def test_nothing_to_find_and_nothing_to_do(attack: Attack) -> None:
    """A model that never errs, images at the corners of the box, zero gradients; an image misclassified already."""
    classifier, _, _ = affine(0)
    linear = next(m for m in classifier.module.modules() if isinstance(m, nn.Linear))
    images = Images(("a", "b"), torch.stack([torch.zeros(1, 8, 8), torch.ones(1, 8, 8)]), torch.zeros(2).long())
    budget = torch.full((2,), 0.3) if attack.fixed_budget else None
    for weights in (linear.weight.clone(), torch.zeros_like(linear.weight)):
        with torch.no_grad():
            linear.weight.copy_(weights)
            linear.bias.copy_(torch.tensor([1e3, 0, 0, 0, 0]))
        assert torch.equal(run(attack, classifier, images, budget), images.pixels)
        with torch.no_grad():
            linear.bias.copy_(torch.tensor([0, 1e3, 0, 0, 0]))
        wrong = sizes(classifier, images, run(attack, classifier, images, budget), attack.norm)
        assert np.isfinite(wrong).all()
        if budget is None:
            assert (wrong == 0).all()


def test_settings_are_validated() -> None:
    for bad in ({"alpha_max": 1.5}, {"beta": 1.0}, {"eta": 0.9}, {"targets": 0}, {"iterations": 0}):
        with pytest.raises(ValueError, match=next(iter(bad))):
            FAB(norm=Norm.L2, **bad)
    for bad in ({"p": 0.0}, {"p": 1.1}, {"queries": 0}):
        with pytest.raises(ValueError, match=next(iter(bad))):
            Square(norm=Norm.L2, **bad)
