"""Second moments of perturbations against a loop over all pairs of pixels, and against fields of known covariance."""

from __future__ import annotations

import math
from itertools import product

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from metric_cases import F64, images_of, observe, random_pixels, small_net
from robusteval.attacks.long_range import correlated
from robusteval.core import memory
from robusteval.core.errors import UnsupportedError
from robusteval.core.images import Images
from robusteval.core.streams import Streams
from robusteval.metrics.base import Observation
from robusteval.metrics.covariance import Covariance, covariance_functions, decay_length
from robusteval.models.making import make_classifier
from robusteval.numerics.displacements import displacement_moments, ring_means

Rings = dict[tuple[int, int, int], tuple[float, NDArray[np.float64]]]


def measured(pixels: Tensor, perturbations: Tensor, **settings: int) -> Observation:
    network = nn.Sequential(nn.Flatten(), nn.Linear(pixels[0].numel(), 2))
    channels, height, width = pixels.shape[1:]
    classifier = make_classifier("any", network, (channels, height, width)).to("cpu", F64)
    return observe(Covariance(witnesses="a", **settings), classifier, images_of(pixels), pixels + perturbations)


def values(seen: Observation, quantity: str) -> dict[float, float]:
    return {s.at: s.value for s in seen.statistics if s.quantity == quantity}


def by_brute_force(arrays: Tensor) -> Rings:
    """By (c, d, ring): the mean distance and, for each image, the mean product over all ordered pairs of pixels."""
    channels, height, width = arrays.shape[1:]
    x = arrays.numpy()
    pixels = list(product(range(height), range(width)))
    sums: dict[tuple[int, int, int], list[tuple[float, NDArray[np.float64]]]] = {}
    for (a, b), (i, j) in product(pixels, pixels):
        distance = math.sqrt((a - i) ** 2 + (b - j) ** 2)
        for c, d in product(range(channels), range(channels)):
            sums.setdefault((c, d, round(distance)), []).append((distance, x[:, c, a, b] * x[:, d, i, j]))
    return {
        key: (float(np.mean([d for d, _ in found])), np.mean([v for _, v in found], axis=0))
        for key, found in sums.items()
    }


@pytest.mark.parametrize("shape", [(1, 1, 1), (2, 4, 4), (3, 2, 5), (1, 5, 1)])
def test_functions_match_a_loop_over_all_pairs(shape: tuple[int, int, int]) -> None:
    generator = torch.Generator().manual_seed(1)
    perturbations = torch.randn(45, *shape, generator=generator, dtype=F64) + 0.3
    pixels = torch.rand(45, *shape, generator=generator).double()
    seen = measured(pixels, perturbations)
    for prefix, arrays in (("", perturbations), ("data_", pixels - pixels.mean(0))):
        for (c, d, _), (at, expected) in by_brute_force(arrays).items():
            if c <= d:
                found = {round(k, 9): v for k, v in values(seen, f"{prefix}covariance_{c}_{d}").items()}
                assert found[round(at, 9)] == pytest.approx(expected.mean(), rel=1e-10, abs=1e-12)
    quantities = {s.quantity for s in seen.statistics}
    assert not any(f"covariance_{c}_{d}" in quantities for c, d in product(range(3), range(3)) if c > d)
    assert values(seen, "perturbations") == values(seen, "images") == {0: 45}


def test_displacements_do_not_wrap_around() -> None:
    """A single bright pixel in each of two corners meets itself at 0 and the other at that displacement only."""
    x = torch.zeros(1, 1, 3, 4, dtype=F64)
    x[0, 0, 0, 0], x[0, 0, 2, 3] = 2.0, 5.0
    moments, pairs = displacement_moments([x])
    expected = torch.zeros(5, 7, dtype=F64)
    expected[2, 3], expected[4, 6], expected[0, 0] = 29 / 12, 10.0, 10.0
    assert torch.allclose(moments[0, 0], expected, atol=1e-12)
    assert pairs.tolist()[0] == [1, 2, 3, 4, 3, 2, 1]
    assert pairs.sum() == 12 * 12


def test_matrices_are_those_of_numpy() -> None:
    pixels, perturbations = random_pixels(30), random_pixels(30).flip(0) - 0.2
    seen = measured(pixels, perturbations)
    x, y = perturbations.flatten(1).numpy(), pixels.flatten(1).numpy()
    assert np.allclose(seen.arrays["perturbations"], x.T @ x / 30, rtol=1e-6)
    assert np.allclose(seen.arrays["images"], np.cov(y.T, bias=True), rtol=1e-6, atol=1e-8)
    assert not measured(pixels, perturbations, matrix=31).arrays
    assert measured(pixels, perturbations, matrix=32).arrays.keys() == {"perturbations", "images"}


ZETA_SHAPE = (2, 8, 8)


def fields(zeta: float, n: int = 800) -> Tensor:
    streams = Streams.for_images(3, "fields", [str(i) for i in range(n)], torch.empty(0, dtype=F64))
    return correlated(streams, 1, ZETA_SHAPE, zeta)[:, 0]


@pytest.mark.parametrize("zeta", [1.0, 2.0, 3.0])
def test_long_range_noise_has_the_covariance_it_was_drawn_with(zeta: float) -> None:
    """exp(-r / zeta) within a channel and half across, within five standard errors of the images' own means."""
    x = fields(zeta)
    place = torch.cartesian_prod(*(torch.arange(float(n), dtype=F64) for n in ZETA_SHAPE[1:]))
    r = torch.cdist(place, place)
    products = torch.einsum("nci,ndj->ncdij", x.flatten(2), x.flatten(2))
    weights = torch.ones_like(r)
    each = ring_means(products, r, weights)[1]
    places, exact = ring_means(torch.exp(-r / zeta), r, weights)
    error = each.std(0) / math.sqrt(len(x))
    found_places, found, _ = covariance_functions(torch.arange(len(x)), lambda rows: x[rows], 100)
    assert torch.allclose(places, found_places)
    assert torch.allclose(found, each.mean(0), atol=1e-12)
    scale = torch.tensor([[1.0, 0.5], [0.5, 1.0]], dtype=F64)
    assert ((found - scale[..., None] * exact).abs() < 5 * error).all()
    # The decay length is zeta, but for the width of the rings, and for what five standard errors at 0 and at zeta move
    # the place where exp(-r / zeta), of slope -1 / (e zeta) there, crosses 1/e of its value at 0.
    wanted = decay_length(places, exact)
    assert wanted == pytest.approx(zeta, rel=0.1 / zeta)
    near = int((places - zeta).abs().argmin())
    for c, d in ((0, 0), (1, 1), (0, 1)):
        moved = 5 * float(error[c, d, near] + error[c, d, 0] / math.e) / float(scale[c, d])
        assert moved < 0.3
        assert abs(decay_length(places, found[c, d]) - wanted) < moved * math.e * zeta


def test_the_standard_error_is_that_of_the_mean() -> None:
    """Of white noise: its square has variance 2 over the number of independent values. The estimate from 20 blocks has
    a relative deviation of about 1 / sqrt(38); four of them are allowed."""
    n, shape = 400, (1, 3, 3)
    x = torch.randn(n, *shape, generator=torch.Generator().manual_seed(2), dtype=F64)
    _, mean, error = covariance_functions(torch.arange(n), lambda rows: x[rows], 50)
    expected = math.sqrt(2 / (n * 9))
    assert float(error[0, 0, 0]) == pytest.approx(expected, rel=4 / math.sqrt(38))
    assert abs(float(mean[0, 0, 0]) - 1) < 5 * expected
    equal = covariance_functions(torch.arange(2), lambda rows: torch.ones(len(rows), *shape, dtype=F64), 1)[2]
    assert (equal == 0).all()


def test_unequal_blocks_weigh_as_many_images_as_they_have() -> None:
    """45 images in 20 blocks: 5 of three and 15 of two."""
    x = random_pixels(45)
    _, mean, _ = covariance_functions(torch.arange(45), lambda rows: x[rows], 7)
    assert float(mean[0, 0, 0]) == pytest.approx(float(x[:, 0].square().mean()), rel=1e-12)


def test_decay_length_by_hand() -> None:
    places = torch.tensor([0.0, 1.0, 3.0], dtype=F64)

    def length(*row: float) -> float:
        return decay_length(places, torch.tensor(row, dtype=F64))

    e = math.e
    assert length(e, 1.0, 0.0) == pytest.approx(1.0)
    assert length(e, 2.0, 0.0) == pytest.approx(1 + 2 * 0.5)
    assert length(e, -e, 5.0) == pytest.approx((e - 1) / (2 * e))
    assert math.isnan(length(1.0, 0.9, 0.8))
    assert math.isnan(length(-1.0, -2.0, 0.0))
    assert math.isnan(length(0.0, 0.0, 0.0))


def test_raw_moments_of_perturbations_keep_their_mean() -> None:
    """A constant perturbation never decays; the images less their mean image are white."""
    pixels = random_pixels(20)
    seen = measured(pixels, torch.full_like(pixels, 0.1))
    for quantity in ("covariance_0_0", "covariance_0_1"):
        assert all(v == pytest.approx(0.01, rel=1e-9) for v in values(seen, quantity).values())
    quantities = {s.quantity for s in seen.statistics}
    assert not any(q.startswith("decay_length") for q in quantities)
    assert "data_decay_length_0_0" in quantities


def test_images_without_a_witness_are_left_out() -> None:
    pixels, witnesses = random_pixels(9), random_pixels(9).flip(0)
    missing = torch.tensor([0, 4, 8])
    witnesses[missing] = torch.nan
    witnesses[5, 0, 0, 0] = torch.nan
    kept = torch.tensor([1, 2, 3, 6, 7])
    metric, net = Covariance(witnesses="a"), small_net()
    seen = observe(metric, net, images_of(pixels), witnesses)
    alone = observe(metric, net, images_of(pixels[kept]), witnesses[kept])
    for quantity in ("covariance_0_0", "covariance_0_1", "perturbations"):
        assert values(seen, quantity) == pytest.approx(values(alone, quantity))
    assert values(seen, "images") == {0: 9}
    assert torch.allclose(seen.arrays["perturbations"], alone.arrays["perturbations"])


def test_one_image() -> None:
    """Its covariance is its own products, without an error; that of the data is zero."""
    seen = measured(random_pixels(1), torch.ones(1, 2, 4, 4, dtype=F64))
    assert all(v == pytest.approx(1.0) for v in values(seen, "covariance_0_0").values())
    assert set(values(seen, "data_covariance_0_0").values()) == {0.0}
    assert not values(seen, "covariance_error_0_0")
    assert not values(seen, "data_decay_length_0_0")


def test_no_witness_at_all_is_unsupported() -> None:
    pixels = random_pixels(3)
    with pytest.raises(UnsupportedError, match=r"witnesses of 'a'.*got none"):
        measured(pixels, torch.full_like(pixels, torch.nan))


def test_memory_does_not_grow_with_the_images(monkeypatch: pytest.MonkeyPatch) -> None:
    """No part that is read holds more images than fit: a padded one of 2 x 8 x 5 numbers."""
    from robusteval.metrics import covariance

    seen: list[int] = []
    inner = displacement_moments

    def watched(parts: object) -> tuple[Tensor, Tensor]:
        found = list(parts)  # type: ignore[call-overload]
        seen.extend(len(part) for part in found)
        return inner(found)

    monkeypatch.setattr(covariance, "displacement_moments", watched)
    images: Images = images_of(random_pixels(400))
    found = []
    for entries, most in ((2**22, 20), (7 * 80, 7), (1, 1)):
        seen.clear()
        with memory.at_most(entries):
            found.append(observe(Covariance(witnesses="a"), small_net(), images, images.pixels.flip(0)))
        assert max(seen) == most
        assert sum(seen) == 800
    for other in found[1:]:
        assert [s.value for s in other.statistics] == pytest.approx([s.value for s in found[0].statistics], rel=1e-9)
        assert torch.allclose(other.arrays["perturbations"], found[0].arrays["perturbations"])
