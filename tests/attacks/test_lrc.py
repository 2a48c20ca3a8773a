"""Correlated Gaussian fields against the formula of their covariance, and the attack that is made of them."""

from __future__ import annotations

import math
import resource
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import binom
from scipy.stats import norm as norm_of
from torch import Tensor, nn

from oracles import affine, affine_distances, random_images
from robusteval.attacks.long_range import Torus, clipped_energy, correlated, from_patterns, patterns_of
from robusteval.attacks.lrc import LRC
from robusteval.core.errors import UnsupportedError, UserError
from robusteval.core.norms import Norm
from robusteval.core.streams import Streams
from robusteval.models.making import make_classifier


def streams(n: int = 1, seed: int = 0, dtype: torch.dtype = torch.float64) -> Streams:
    return Streams.for_images(seed, "test", [f"i{k}" for k in range(n)], torch.empty(0, dtype=dtype))


def exponential(height: int, width: int, zeta: float) -> Tensor:
    """The covariance (HW, HW) of the paper, written down pixel by pixel."""
    places = [(r, c) for r in range(height) for c in range(width)]
    return torch.tensor([[math.exp(-math.dist(p, q) / zeta) for q in places] for p in places], dtype=torch.float64)


@pytest.mark.parametrize("zeta", [0.5, 2.0, 4.0])
@pytest.mark.parametrize(("height", "width"), [(8, 8), (6, 11)])
def test_the_linear_map_has_the_covariance_of_the_paper(height: int, width: int, zeta: float) -> None:
    """White noise times A has covariance A A^T: here A itself, row by row, for both fields that a transform gives."""
    torus = Torus.exponential(height, width, zeta)
    entries = 2 * torus.amplitudes.numel()
    white = torch.eye(entries, dtype=torch.float64).view(entries, 2, *torus.amplitudes.shape)
    z = torus.fields(white)
    a = torch.cat([z.real.flatten(1), z.imag.flatten(1)], dim=1)
    expected = torch.block_diag(*2 * [exponential(height, width, zeta)])
    assert torus.clipped == 0
    torch.testing.assert_close(a.T @ a, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("zeta", [1.0, 2.0, 4.0, 8.0, 16.0])
@pytest.mark.parametrize(("height", "width"), [(224, 224), (28, 28), (8, 8), (1, 30)])
def test_every_displacement_in_a_image_has_the_covariance_of_the_paper(height: int, width: int, zeta: float) -> None:
    """The eigenvalues' transform is the covariance by displacement."""
    torus = Torus.exponential(height, width, zeta)
    covariance = torch.fft.fft2(torus.amplitudes**2).real[:height, :width]
    down, right = torch.arange(height, dtype=torch.float64), torch.arange(width, dtype=torch.float64)
    expected = torch.exp(-(down[:, None] ** 2 + right**2).sqrt() / zeta)
    assert clipped_energy(height, width, zeta) == 0
    torch.testing.assert_close(covariance, expected, rtol=0, atol=1e-12)


def test_what_is_clipped_is_said_and_the_variance_stays_one() -> None:
    """A decay length far beyond what the widest torus can hold."""
    torus = Torus.exponential(16, 16, 2000.0)
    assert 0 < torus.clipped < 0.05
    assert (torus.amplitudes**2).sum() == pytest.approx(1.0, abs=1e-12)


def test_draws_have_the_covariance_within_and_across_channels() -> None:
    """Over n draws an entry of the sample covariance has a standard error of at most sqrt(2 / n): 5 of them."""
    n, zeta, (channels, height, width) = 40_000, 2.0, (3, 2, 3)
    z = correlated(streams(), n, (channels, height, width), zeta)[0].flatten(1)
    across = torch.full((channels, channels), 0.5, dtype=torch.float64).fill_diagonal_(1.0)
    expected = torch.kron(across, exponential(height, width, zeta))
    assert (z.T @ z / n - expected).abs().max() < 5 * math.sqrt(2 / n)


def test_an_odd_number_of_fields() -> None:
    z = correlated(streams(2), 3, (1, 4, 4), 2.0)
    assert z.shape == (2, 3, 1, 4, 4)
    assert len(torch.unique(z[:, :, 0, 0, 0])) == 6


def test_a_hundred_imagenet_sized_perturbations_fit_in_memory() -> None:
    """In blocks, as the attack draws them; the peak would be 90 GB with a dense matrix."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    own = streams(dtype=torch.float32)
    for _ in range(10):
        z = correlated(own, 10, (3, 224, 224), 8.0)
    assert z.isfinite().all()
    assert z.square().mean() == pytest.approx(1.0, abs=0.5)
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024 < 2**30


def test_patterns_have_the_covariance_of_their_images() -> None:
    """The patterns' sum of outer products is what numpy calls the covariance, over its mean diagonal; and the draws
    are that sum's: the map from weights to fields is linear, so the patterns themselves are its columns."""
    pixels = torch.rand(12, 2, 3, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    patterns = patterns_of(pixels)
    rows = patterns.flatten(1)
    covariance = np.cov(pixels.flatten(1).numpy().T)
    np.testing.assert_allclose((rows.T @ rows).numpy(), covariance / np.diag(covariance).mean(), atol=1e-12)
    n = 40_000
    z = from_patterns(streams(), n, patterns)[0].flatten(1)
    largest = float(np.diag(covariance).max() / np.diag(covariance).mean())
    assert (z.T @ z / n - rows.T @ rows).abs().max() < 5 * largest * math.sqrt(2 / n)


@pytest.mark.parametrize("norm", LRC.norms)
@pytest.mark.parametrize("images", [None, "set"])
def test_the_attack_keeps_its_budgets_and_an_image_alone_gives_the_same(
    norm: Norm, images: str | None, tmp_path: Path
) -> None:
    classifier, weight, bias = affine(1)
    chosen = random_images(1, 6, classifier).to("cpu", torch.float64)
    classifier = classifier.to("cpu", torch.float64)
    exact = affine_distances(weight, bias, chosen, norm)
    if images:
        images = str(tmp_path / "set.npz")
        np.savez(images, x=np.random.default_rng(0).random((30, 1, 8, 8)), y=np.zeros(30, dtype=int))
    attack = LRC(norm=norm, images=images, zeta=4.0)
    budget = torch.from_numpy(exact) * torch.tensor([0.9, 2.0, 8.0, 0.5, 4.0, 16.0])
    own = Streams.for_images(0, "test", chosen.ids, chosen.pixels)
    candidates = attack.run(classifier.metered(6), chosen, budget, own).examples
    assert ((candidates >= 0) & (candidates <= 1)).all()
    assert (norm.size(candidates - chosen.pixels) <= budget * (1 + 1e-6)).all()
    fooled = (classifier.predict(candidates).argmax(1) != chosen.labels).numpy()
    assert not fooled[budget.numpy() < exact].any()
    assert fooled.any()
    for i in range(6):
        one = chosen.select(torch.tensor([i]))
        alone = attack.run(
            classifier.metered(1), one, budget[i : i + 1], Streams.for_images(0, "test", one.ids, one.pixels)
        )
        torch.testing.assert_close(alone.examples[0], candidates[i], rtol=0, atol=1e-9)


def test_another_data_set_is_another_noise_and_must_have_the_same_shape(tmp_path: Path) -> None:
    classifier, _, _ = affine(1)
    chosen = random_images(1, 2, classifier)
    path = tmp_path / "large.npz"
    np.savez(path, x=np.random.default_rng(0).random((3, 1, 9, 9)), y=np.zeros(3, dtype=int))
    budget = torch.full((2,), 0.3)

    def run(images: str | None) -> Tensor:
        own = Streams.for_images(0, "test", chosen.ids, chosen.pixels)
        return LRC(norm=Norm.L2, images=images, samples=3).run(classifier.metered(2), chosen, budget, own).examples

    assert not torch.equal(run("digits:train"), run(None))
    with pytest.raises(UnsupportedError, match=r"expected images of shape 1x8x8 in .* for lrc, got 1x9x9"):
        run(str(path))
    with pytest.raises(UserError, match="nowhere"):
        run(str(tmp_path / "nowhere.npz"))


def test_equal_images_have_no_covariance() -> None:
    with pytest.raises(UserError, match="expected images that differ"):
        patterns_of(torch.full((5, 1, 4, 4), 0.3))


def test_images_are_drawn_alike_however_many_there_are() -> None:
    """The torus is too large for all images at a time: they are drawn in parts, each from its own stream."""
    many = correlated(streams(3), 8, (3, 224, 224), 8.0)
    alone = correlated(streams(3).select(torch.tensor([2])), 8, (3, 224, 224), 8.0)
    torch.testing.assert_close(many[2], alone[0], rtol=0, atol=1e-9)


class Brighter(nn.Module):
    """Class 1 where the mean of the pixels exceeds `at`."""

    def __init__(self, at: float) -> None:
        super().__init__()
        self.at = at

    def forward(self, pixels: Tensor) -> Tensor:
        over = pixels.flatten(1).mean(1) - self.at
        return torch.stack([-over, over], dim=1)


def fooled_by_a_draw(zeta: float, eps: float, room: float, side: int = 4, samples: int = 100) -> float:
    """P(some of the draws has a mean above `room` / eps): the mean of z is normal with the mean of its covariance."""
    spread = math.sqrt(float(exponential(side, side, zeta).mean()))
    return float(1 - norm_of.cdf(room / (eps * spread)) ** samples)


@pytest.mark.parametrize(("zeta", "room"), [(1.0, 0.09), (8.0, 0.17), (16.0, 0.19)])
@pytest.mark.parametrize("unit", ["pixels", "standardised"])
def test_as_drawn_the_worst_of_a_hundred_is_among_the_large_draws(zeta: float, room: float, unit: str) -> None:
    """The mean brightness of x + eps z is normal, so that the share of fooled images is known. Scaled to the budget no
    draw moves it farther than eps, and the long-range ones move it less often so far."""
    n, eps = 160, 0.08
    pixels = torch.full((n, 1, 4, 4), 0.5, dtype=torch.float64)
    spread = 0.25
    pixels[:, :, ::2] += spread
    pixels[:, :, 1::2] -= spread
    classifier = make_classifier("brighter", Brighter(0.5 + room), (1, 4, 4)).to("cpu", torch.float64)
    labels = torch.zeros(n, dtype=torch.int64)
    strength = eps if unit == "pixels" else eps / spread
    attack = LRC.model_validate({"norm": "l2", "zeta": zeta, "scaling": "as drawn", "strength": strength, "unit": unit})
    assert not attack.fixed_budget
    found = attack(classifier, pixels, labels)
    expected = fooled_by_a_draw(zeta, eps, room)
    assert 0.1 < expected < 0.9
    hits = int(found.success.sum())
    assert binom.ppf(1e-6, n, expected) <= hits <= binom.isf(1e-6, n, expected)
    # The judge measures what was added: not all the same, and some of it above eps as a root mean square.
    sizes = found.distances[Norm.L2][found.success] / 4
    assert len(sizes.unique()) == len(sizes)
    assert (sizes > eps).any()
    scaled = LRC(norm=Norm.L2, zeta=zeta)(classifier, pixels, labels, budget=4 * eps)
    assert int(scaled.success.sum()) < hits


def test_a_flat_image_has_a_unit_too() -> None:
    pixels = torch.full((3, 1, 4, 4), 0.5, dtype=torch.float64)
    classifier = make_classifier("brighter", Brighter(0.51), (1, 4, 4)).to("cpu", torch.float64)
    attack = LRC(norm=Norm.L2, scaling="as drawn", strength=0.5)
    found = attack(classifier, pixels, torch.zeros(3, dtype=torch.int64))
    assert found.success.all()
    assert (found.distances[Norm.L2] > 0).all()


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"scaling": "as drawn"}, "expected a strength"),
        ({"scaling": "as drawn", "strength": 0.3, "minimum_distance": True}, "no minimum_distance"),
        ({"strength": 0.3}, "expected scaling 'as drawn' for a strength, got 'to the budget'"),
    ],
)
def test_a_strength_belongs_to_draws_as_they_are(settings: dict[str, object], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        LRC.model_validate({"norm": "l2", **settings})


class Hole(nn.Module):
    """NaN for every image brighter than the middle on the left, class 1 where it is brighter on the right."""

    def forward(self, pixels: Tensor) -> Tensor:
        left, right = pixels.flatten(1)[:, 0] - 0.5, pixels.flatten(1)[:, 1] - 0.5
        right = torch.where(left > 0, torch.nan, right)
        return torch.stack([-right, right], dim=1)


def test_a_draw_without_a_finite_answer_hides_no_other() -> None:
    """A quarter of the draws fool, half have no finite answer: one of ten of a block is NaN nearly always."""
    classifier = make_classifier("hole", Hole(), (1, 1, 2)).to("cpu", torch.float64)
    pixels = torch.full((20, 1, 1, 2), 0.5, dtype=torch.float64)
    pixels[..., 1] -= 1e-3
    found = LRC(norm=Norm.L2, zeta=0.1)(classifier, pixels, torch.zeros(20, dtype=torch.int64), budget=0.3)
    assert found.success.all()
