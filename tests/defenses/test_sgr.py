"""The value of SGR against its other forms: Eq. 13, Eq. 20, gradient norms, and the covariance of long range."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.autograd.functional import jacobian

from defending import F64, a_batch, affine_net, begun, conv_net, dense_net, gradient_left, linear, pixel_gradients
from robusteval.core.norms import Norm
from robusteval.defenses.base import Batch
from robusteval.defenses.gradient_regularization import GradientRegularization
from robusteval.defenses.second_moments import expanded
from robusteval.defenses.sgr import SGR
from robusteval.defenses.standard import Standard

CLOSE = 1e-12
"""Of values of order one: sums of a few hundred products in float64."""


def spread(size: int) -> Tensor:
    """A covariance matrix that is not diagonal."""
    root = torch.randn(size, size, generator=torch.Generator().manual_seed(1), dtype=F64)
    return root @ root.T / size


def penalty(defense: SGR, network: nn.Module, batch: Batch, sigma: Tensor, mean: Tensor | None = None) -> float:
    """Omega with a given Sigma and mean of the perturbations."""
    state = {**begun(defense, network, batch), "sigma": sigma}
    if mean is not None:
        state["mean"] = mean
    loss, _ = defense.objective(network, batch, state)
    clean, _ = Standard().objective(network, batch, {})
    return (loss - clean).item() / defense.weight


FIXED = SGR(source="lrc", representation="matrix")


def test_on_an_affine_model_it_is_the_variance_of_the_weights_around_their_mean() -> None:
    """SGR Eq. 20: 1/2 E (w_y - <w>)^T Sigma (w_y - <w>)."""
    network, batch, sigma = affine_net(16, 3), a_batch(), spread(16)
    w, phi = linear(network, 1).weight, network(batch.pixels).softmax(1)
    apart = w[batch.labels] - phi @ w
    expected = 0.5 * ((apart @ sigma) * apart).sum(1).mean()
    assert penalty(FIXED, network, batch, sigma) == pytest.approx(expected.item(), rel=CLOSE)


def test_the_form_in_the_logits_is_the_same() -> None:
    """SGR Eq. 13, the Jacobian of the logits by autograd."""
    network, batch, sigma = dense_net(16, 7, 3, seed=2), a_batch(), spread(16)
    total = 0.0
    for x, y in zip(batch.pixels, batch.labels, strict=True):
        j = jacobian(network, x[None]).reshape(3, 16)
        apart = j[y] - network(x[None]).softmax(1)[0] @ j
        total += (apart @ sigma @ apart).item() / 2 / len(batch.pixels)
    assert penalty(FIXED, network, batch, sigma) == pytest.approx(total, rel=CLOSE)


@pytest.mark.parametrize("representation", ["functions", "matrix"])
@pytest.mark.parametrize("channels", [1, 3])
def test_with_the_identity_it_is_the_gradient_norm_as_gradient_regularization_has_it(
    representation: str, channels: int
) -> None:
    network, batch = conv_net(channels=channels), a_batch(shape=(channels, 4, 4))
    sgr = SGR.model_validate({"source": "identity", "representation": representation, "weight": 0.7})
    dbp = GradientRegularization(norm=Norm.L2, by="double-backpropagation", weight=0.7)
    loss, gradient, _ = gradient_left(sgr, network, batch, begun(sgr, network, batch))
    expected, expected_gradient, _ = gradient_left(dbp, network, batch, {})
    assert loss.item() == pytest.approx(expected.item(), rel=CLOSE)
    assert torch.allclose(gradient, expected_gradient, rtol=0, atol=CLOSE)


def test_the_long_range_covariance_has_half_its_entries_across_channels() -> None:
    network, batch, defense = conv_net(channels=3), a_batch(shape=(3, 4, 4)), SGR(source="lrc", zeta=3.0, weight=1.0)
    g = pixel_gradients(network, batch)
    rows, columns = torch.arange(4).repeat_interleave(4).double(), torch.arange(4).repeat(4).double()
    decay = torch.exp(-torch.hypot(rows[:, None] - rows, columns[:, None] - columns).round() / 3)
    across = torch.full((3, 3), 0.5, dtype=F64).fill_diagonal_(1)
    expected = 0.5 * torch.einsum("nci,cd,ij,ndj->n", g.flatten(2), across, decay, g.flatten(2)).mean()
    sigma = begun(defense, network, batch)["sigma"]
    # The functions are made in float32.
    assert penalty(defense, network, batch, sigma) == pytest.approx(expected.item(), rel=1e-6)


def test_at_a_decay_length_of_zero_it_is_the_gradient_norm_within_a_channel_and_half_of_it_across() -> None:
    for channels in (1, 3):
        network, batch = conv_net(channels=channels), a_batch(shape=(channels, 4, 4))
        defense = SGR(source="lrc", zeta=1e-3, weight=1.0)  # exp(-1000) is zero
        g = pixel_gradients(network, batch)
        within = g.square().flatten(1).sum(1)
        across = g.sum(1).square().flatten(1).sum(1) - within
        expected = 0.5 * (within + 0.5 * across).mean()
        found = penalty(defense, network, batch, begun(defense, network, batch)["sigma"])
        assert found == pytest.approx(expected.item(), rel=CLOSE)
        assert (across.abs().max() < CLOSE) == (channels == 1)


def test_uncentred_perturbations_add_the_mean_of_their_product_with_the_gradient() -> None:
    """Eq. 12: -E grad log phi . mu, which is +E g . mu."""
    network, batch, sigma = conv_net(), a_batch(), spread(16)
    mean = torch.randn(1, 4, 4, generator=torch.Generator().manual_seed(2), dtype=F64)
    both = [penalty(FIXED.model_copy(update={"centred": c}), network, batch, sigma, mean) for c in (False, True)]
    expected = (pixel_gradients(network, batch) * mean).flatten(1).sum(1).mean().item()
    assert abs(expected) > 1e-3
    assert both[0] - both[1] == pytest.approx(expected, abs=CLOSE)


@pytest.mark.parametrize("representation", ["functions", "matrix"])
def test_the_covariance_of_the_images_has_their_mean_subtracted(representation: str) -> None:
    defense = SGR.model_validate({"source": "images", "representation": representation})
    batch = a_batch(20, shape=(1, 1, 2))
    sigma = begun(defense, nn.Flatten(), batch)["sigma"]
    rows = batch.pixels.flatten(1)
    expected = torch.cov(rows.T)
    expected = expected / expected.diagonal().mean()
    if representation == "functions":
        sigma = expanded(sigma, (1, 1, 2))
        expected = expected.clone().fill_diagonal_(1.0)
    assert torch.allclose(sigma, expected, rtol=0, atol=CLOSE)
