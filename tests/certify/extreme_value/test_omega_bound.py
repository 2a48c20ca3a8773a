"""The omega-bound against a model whose curvature is known, and against a scan of its proposition."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor, nn

from certificate_cases import run
from certifying import F64, SHAPE, images_of, linear_two_class, random_images, small_net
from robusteval.certify.base import State
from robusteval.certify.extreme_value.loss import slopes
from robusteval.certify.extreme_value.omega_bound import GRIDS, OmegaBound
from robusteval.core.methods import Statistic
from robusteval.core.norms import BALLS, Norm
from robusteval.core.streams import Streams
from robusteval.models.making import make_classifier


@pytest.mark.parametrize("norm", BALLS)
def test_omega_is_monotone_not_negative_and_its_samples_stay_below_the_curvature(norm: Norm) -> None:
    """|d^2/dz^2 tanh(z / 2)| <= 1 / (3 sqrt 3), so a departure is at most (eps |w|_*)^2 / (6 sqrt 3)."""
    classifier, w, _ = linear_two_class()
    certificate = OmegaBound(norm=norm, grid=GRIDS[norm][:6:2], batches=20, batch=10, refits=9)
    state, _ = run(certificate, classifier, random_images(60))
    omega = [s.value for s in state if s.quantity == "omega"]
    assert len(omega) == 3
    assert omega == sorted(omega)
    assert omega[0] >= 0
    limit = {g: (g * float(norm.dual.size(w[None]))) ** 2 / (6 * math.sqrt(3)) for g in certificate.grid}
    samples = [(s.at, s.value) for s in state if s.quantity == "omega_maximum"]
    assert len(samples) == 60
    assert all(value <= limit[at] + 1e-12 for at, value in samples)
    assert max(value for _, value in samples) > 0


@pytest.mark.parametrize("norm", BALLS)
def test_ascent_finds_more_than_sampling_and_both_are_kept(norm: Norm) -> None:
    classifier, images = small_net(), random_images(60, classes=3)
    grid = GRIDS[norm][2:5]
    settings_of = {"norm": norm, "grid": grid, "batches": 15, "batch": 20, "refits": 1}
    by_sampling, _ = run(OmegaBound(**settings_of, search="sampling"), classifier, images)
    by_ascent, _ = run(OmegaBound(**settings_of), classifier, images)

    def curve(state: State, quantity: str) -> NDArray[np.float64]:
        return np.array([s.value for s in state if s.quantity == quantity])

    assert np.array_equal(curve(by_sampling, "omega"), curve(by_sampling, "omega_sampled"))
    assert len(curve(by_sampling, "omega_ascent")) == 0
    assert np.array_equal(curve(by_ascent, "omega_sampled"), curve(by_sampling, "omega_sampled"))
    assert np.array_equal(curve(by_ascent, "omega"), curve(by_ascent, "omega_ascent"))
    assert (curve(by_ascent, "omega_ascent") >= curve(by_ascent, "omega_sampled")).all()
    sampled, climbed = (curve(s, "omega_maximum").reshape(3, 15) for s in (by_sampling, by_ascent))
    assert (climbed >= sampled).all()
    assert (np.diff(climbed, axis=0) >= 0).all()
    assert climbed.mean() > 2 * sampled.mean()


class Extremes(nn.Module):
    """Remembers the smallest and the largest pixel that it was shown."""

    low, high = math.inf, -math.inf

    def forward(self, pixels: Tensor) -> Tensor:
        self.low = min(self.low, pixels.min().item())
        self.high = max(self.high, pixels.max().item())
        return pixels


@pytest.mark.parametrize("norm", BALLS)
def test_omega_looks_at_images_only(norm: Norm) -> None:
    images = random_images(20)
    network = nn.Sequential(Extremes(), nn.Flatten(), nn.Linear(16, 2))
    classifier = make_classifier("seen", network, SHAPE).to("cpu", F64)
    seen = next(m for m in classifier.module.modules() if isinstance(m, Extremes))
    certificate = OmegaBound(norm=norm, grid=(5.0,), batches=5, batch=10)
    run(certificate, classifier, images)
    assert 0 <= seen.low < float(images.pixels.min())
    assert 1 >= seen.high > float(images.pixels.max())


def known_omega(w: Tensor, norm: Norm, grid: tuple[float, ...]) -> State:
    """An upper bound of omega of the two-class linear network, from its curvature."""
    steep = float(norm.dual.size(w[None]))
    return tuple(Statistic("omega", g, (g * steep) ** 2 / (6 * math.sqrt(3))) for g in grid)


@pytest.mark.parametrize("norm", BALLS)
def test_omega_bound_is_sound_and_useful_where_omega_is_known(norm: Norm) -> None:
    classifier, w, b = linear_two_class()
    images = random_images(60)
    z = images.pixels.flatten(1) @ w + b
    images = images_of(images.pixels, (z > 0).long())
    exact = z.abs() / norm.dual.size(w[None])
    grid = tuple(np.geomspace(float(exact.min()) / 2, float(exact.max()), 200).tolist())
    certificate = OmegaBound(norm=norm, grid=grid)
    streams = Streams.for_images(0, "any", images.ids, images.pixels)
    radii = certificate.radii(classifier, images, known_omega(w, norm, grid), streams)
    assert (radii.radius <= exact).all()
    near = z.abs() < 0.5
    assert near.sum() >= 1
    assert (radii.radius[near] > 0.8 * exact[near]).all()


@given(
    omega=st.lists(st.floats(0, 1), min_size=1, max_size=6),
    steps=st.lists(st.floats(0.01, 0.5), min_size=6, max_size=6),
)
@settings(max_examples=40, deadline=None)
def test_omega_radius_is_the_largest_that_the_proposition_allows(omega: list[float], steps: list[float]) -> None:
    """Against a fine scan of eps with omega read as a step function."""
    classifier, images = small_net(), random_images(5, classes=3)
    grid, omega = np.cumsum(steps)[: len(omega)], sorted(omega)
    state = tuple(Statistic("omega", float(g), o) for g, o in zip(grid, omega, strict=True))
    streams = Streams.for_images(0, "any", images.ids, images.pixels)
    radius = OmegaBound(norm=Norm.L2).radii(classifier, images, state, streams).radius.numpy()
    here = slopes(classifier, images, Norm.L2)
    eps = np.linspace(0, grid[-1], 4001)[1:]
    step = np.asarray(omega)[np.searchsorted(grid, eps - 1e-12)]
    holds = here.margin.numpy()[:, None] - step >= eps * here.slope.numpy()[:, None]
    scanned = np.where(holds, eps, 0).max(1)
    assert (radius >= scanned - 1e-9).all()
    assert (radius <= scanned + 1.01 * eps[0]).all()
