"""Gaussian augmentation against its formula."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from defending import a_batch, conv_net
from robusteval.defenses.base import losses
from robusteval.defenses.gaussian_augmentation import GaussianAugmentation


def test_it_is_the_mean_loss_of_each_image_and_of_its_noisy_copies_which_nothing_cuts() -> None:
    network, seen, batch = conv_net(), list[Tensor](), a_batch(60)
    network.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].detach()))
    loss, _ = GaussianAugmentation(sigma=0.5, folds=4).objective(network, batch, {})
    copies = torch.cat(seen).unflatten(0, (4, 60))
    assert torch.equal(copies[0], batch.pixels)
    noise = (copies[1:] - batch.pixels) / 0.5
    # 2,880 draws: the deviation's standard error is 1 / sqrt(2 * 2880) = 1.3 %, the mean's 1.9 %; five of each.
    assert noise.std().item() == pytest.approx(1, abs=0.066)
    assert noise.mean().item() == pytest.approx(0, abs=0.095)
    assert copies.min() < 0
    assert copies.max() > 1
    assert (noise[0] != noise[1]).all()
    expected = torch.stack([losses(network(c), batch.labels) for c in copies]).mean()
    assert loss.item() == pytest.approx(expected.item(), rel=1e-14)
