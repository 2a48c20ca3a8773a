"""Augmentation of SGR: for the predicted class, in the ball, mixed with the clean images."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from defending import F64, a_batch, affine_net, conv_net, linear
from robusteval.defenses.base import Batch, losses
from robusteval.defenses.perturbed_augmentation import PerturbedAugmentation


def wrongly_classified() -> Batch:
    """Every label is the class after the one that the affine network predicts."""
    batch = a_batch(8)
    return Batch(batch.pixels, (affine_net(16, 3)(batch.pixels).argmax(1) + 1) % 3, batch.generator)


@pytest.mark.parametrize("kind", ["fgsm", "pgd"])
def test_it_raises_the_loss_of_the_predicted_class_of_misclassified_images(kind: str) -> None:
    network, batch = affine_net(16, 3), wrongly_classified()
    predicted = network(batch.pixels).argmax(1)
    defense = PerturbedAugmentation.model_validate({"perturbation": kind, "budget": 0.01})
    seen: list[torch.Tensor] = []
    network.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].detach()))
    loss, _ = defense.objective(network, batch, {})
    moved = seen[-1]
    before, after = losses(network(batch.pixels), predicted), losses(network(moved), predicted)
    assert (after > before).all()
    expected = (
        functional.cross_entropy(network(batch.pixels), batch.labels) + losses(network(moved), batch.labels).mean()
    ) / 2
    assert loss.item() == pytest.approx(expected.item(), rel=1e-14)


def test_fgsm_is_the_sign_of_the_gradient_of_the_predicted_class() -> None:
    network, batch = affine_net(16, 3), wrongly_classified()
    predicted = network(batch.pixels).argmax(1)
    w, phi = linear(network, 1).weight.detach(), network(batch.pixels).softmax(1).detach()
    gradient = (phi @ w - w[predicted]).view_as(batch.pixels)
    found = PerturbedAugmentation(perturbation="fgsm", budget=0.03).perturbed(network, batch, predicted)
    assert torch.allclose(found, (batch.pixels + 0.03 * gradient.sign()).clamp(0, 1), rtol=0, atol=1e-15)


def test_pgd_stays_in_the_ball_and_in_the_box() -> None:
    network, batch = conv_net(), a_batch()
    found = PerturbedAugmentation(perturbation="pgd", budget=0.03).perturbed(network, batch, batch.labels)
    assert (found - batch.pixels).abs().max() == pytest.approx(0.03, abs=1e-15)
    assert found.min() >= 0
    assert found.max() <= 1


def test_long_range_noise_has_a_root_mean_square_of_the_budget_and_long_range() -> None:
    """Of 2,000 grey images of 64 pixels that nothing cuts: the mean square of a pixel has a standard error of
    sqrt(2 / 2000) = 3 %, its root 1.6 %; five of those. Neighbours correlate by exp(-1/8) = 0.88."""
    n, budget = 2000, 0.01
    pixels = torch.full((n, 1, 8, 8), 0.5, dtype=F64)
    batch = Batch(pixels, torch.zeros(n, dtype=torch.int64), torch.Generator().manual_seed(0))
    defense = PerturbedAugmentation(perturbation="lrc", budget=budget, zeta=8.0)
    noise = defense.perturbed(conv_net(), batch, batch.labels) - pixels
    assert noise.square().mean().sqrt().item() == pytest.approx(budget, rel=0.08)
    neighbours = (noise[..., 1:] * noise[..., :-1]).mean() / noise.square().mean()
    assert neighbours.item() == pytest.approx(0.8825, abs=0.02)


def test_long_range_noise_is_cut_to_the_box() -> None:
    batch = a_batch()
    found = PerturbedAugmentation(perturbation="lrc", budget=1.0).perturbed(conv_net(), batch, batch.labels)
    assert found.min() == 0
    assert found.max() == 1


def test_the_share_weighs_the_perturbed_images() -> None:
    found = [
        PerturbedAugmentation(perturbation="fgsm", budget=0.05, share=s).objective(conv_net(), a_batch(), {})[0].item()
        for s in (0.25, 0.75, 1.0)
    ]
    clean = losses(conv_net()(a_batch().pixels), a_batch().labels).mean().item()
    for share, loss in zip((0.25, 0.75), found, strict=False):
        assert loss == pytest.approx((1 - share) * clean + share * found[2], rel=1e-14)
