"""The analytic moments of theorem 1 against quadrature, explicit matrices and Monte Carlo."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.integrate import quad
from scipy.stats import norm
from torch import Tensor, nn

from metric_cases import F64, SHAPE, curve, images_of, measure, random_pixels
from rectifying import MEAN, STD, classifier_of, density, quadrature, two_layers
from robusteval.analysis.results import Results
from robusteval.metrics.analytic_moments import AnalyticMoments, agreement, rectified, relative, sampled
from robusteval.metrics.first_relu import first_relu
from robusteval.reports.chapters import analytic_moments as chapter
from run_fixture import build_paper_run

# Moments of a rectified Gaussian


@pytest.mark.parametrize("ratio", [-6.0, -2.0, -0.3, 0.0, 0.3, 2.0, 6.0, 30.0])
@pytest.mark.parametrize("deviation", [0.01, 1.0, 50.0])
def test_moments_of_a_rectified_gaussian_by_quadrature(ratio: float, deviation: float) -> None:
    m = ratio * deviation
    mean, found = (float(v) for v in rectified(torch.tensor(m, dtype=F64), torch.tensor(deviation, dtype=F64)))
    first = quadrature(m, deviation, 1)
    low, high = max(0.0, m - 12 * deviation), max(0.0, m + 12 * deviation)
    spread, _ = quad(
        lambda z: (z - first) ** 2 * density(z, m, deviation), low, high, epsabs=0, epsrel=1e-11, limit=200
    )
    assert mean == pytest.approx(first, rel=1e-9, abs=1e-12 * deviation)
    assert found**2 == pytest.approx(spread + first**2 * norm.cdf(-ratio), rel=1e-7, abs=1e-13 * deviation**2)


def test_moments_without_noise_or_far_away_are_those_of_the_value() -> None:
    m = torch.tensor([-3.0, -0.0, 0.0, 2.0, 1e10, -1e10, 5.0, 1e-300], dtype=F64)
    s = torch.tensor([0.0, 0.0, 0.0, 0.0, 1e-3, 1e-3, 1e-320, 0.0], dtype=F64)
    mean, deviation = rectified(m, s)
    assert torch.equal(mean, m.clamp_min(0))
    assert torch.allclose(deviation, torch.tensor([0, 0, 0, 0, 1e-3, 0, 1e-320, 0], dtype=F64), rtol=1e-9, atol=0)
    # 1e8 standard deviations inside: m^2 + s^2 - m^2 would be zero.
    assert float(rectified(torch.tensor(1.0, dtype=F64), torch.tensor(1e-8, dtype=F64))[1]) == pytest.approx(1e-8)


# The metric


def test_the_expected_output_of_two_layers_is_exact_by_quadrature() -> None:
    """Affine, ReLU, affine: the expected logits are B E[ReLU] + c, one Gaussian integral for each hidden unit."""
    network, pixels, sigma = two_layers(), random_pixels(3), 0.3
    split = first_relu(classifier_of(network))
    mean, deviation = rectified(split.before(pixels), sigma * split.gain)
    found = split.rest.predict(mean.unflatten(1, split.shape))
    first, last = (m.double() for m in network.modules() if isinstance(m, nn.Linear))
    scale = torch.tensor(STD, dtype=F64).repeat_interleave(16)
    shift = torch.tensor(MEAN, dtype=F64).repeat_interleave(16)
    a = first.weight / scale
    mu = (pixels.flatten(1) @ a.T + first.bias - a @ shift).detach().numpy()
    s = sigma * a.square().sum(1).sqrt().detach().numpy()
    exact = np.array([[quadrature(m, d, 1) for m, d in zip(row, s, strict=True)] for row in mu])
    second = np.array([[quadrature(m, d, 2) for m, d in zip(row, s, strict=True)] for row in mu])
    expected = exact @ last.weight.detach().numpy().T + last.bias.detach().numpy()
    assert np.allclose(found.numpy(), expected, rtol=1e-7, atol=1e-7)
    assert np.allclose(deviation.numpy(), np.sqrt(second - exact**2), rtol=1e-5, atol=1e-7)


def fourth(mean: Tensor, s: Tensor) -> Tensor:
    """The fourth central moment of max(z, 0): E max(z, 0)^k = m E^(k-1) + (k-1) s^2 E^(k-2) for k > 1."""
    a = mean / s
    moments = [torch.special.ndtr(a), rectified(mean, s)[0]]
    for k in (2, 3, 4):
        moments.append(mean * moments[k - 1] + (k - 1) * s**2 * moments[k - 2])
    _, one, two, three, four = moments
    central: Tensor = four - 4 * one * three + 6 * one**2 * two - 3 * one**4
    return central


def test_the_errors_of_an_exact_surrogate_are_those_of_monte_carlo() -> None:
    """In two layers everything is exact: each squared error against Monte Carlo has the expectation that its standard
    error says, and over 40 images their mean comes near it. Six times is out of reach for any one of them."""
    classifier, images, samples = classifier_of(two_layers(60)), images_of(random_pixels(40)), 800
    found = measure(AnalyticMoments(sigmas=(0.2,), samples=samples), classifier, images)
    values = {m.quantity: m.values for m in found}
    assert all(v.dtype == F64 for v in values.values())
    split = first_relu(classifier)
    before, s = split.before(images.pixels), 0.2 * split.gain
    deviation = rectified(before, s)[1]
    variance = (fourth(before, s) - deviation**4).clamp_min(0) / (4 * samples * deviation.square().clamp_min(1e-12))
    values["deviation_uncertainty"] = variance.sum(1).sqrt() / deviation.norm(dim=1)
    for which in ("output", "mean", "deviation"):
        ratio = values[f"{which}_error"] / values[f"{which}_uncertainty"]
        assert (ratio < 6).all(), which
        assert 0.6 < float(ratio.square().mean()) < 1.6, which
    assert not (values["agreement"] == 0).any()
    assert (values["agreement"] == 1).sum() > 20
    same = values["expected_class"] == values["monte_carlo_class"]
    assert same[values["agreement"] == 1].all()
    assert (values["clean_error"] > values["output_error"]).double().mean() > 0.9


class Deep(nn.Module):
    """Class 1 where a hidden unit is above 1: rarely, but then by far. Omega is not affine: the surrogate is wrong."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(32, 1, bias=False)
        nn.init.zeros_(self.first.weight)
        with torch.no_grad():
            self.first.weight[0, 0] = STD[0]

    def forward(self, x: Tensor) -> Tensor:
        y = torch.relu(self.first(x.flatten(1)))
        rare = 100 * torch.relu(y - 0.5)
        return torch.cat([torch.ones_like(rare), rare], 1)


def test_a_surrogate_that_is_wrong_is_seen_to_be_so() -> None:
    """y = max(0, z), z ~ N(0, 1): 100 E max(0, z - 0.5) = 19.8 > 1, but 100 max(0, E y - 0.5) = 0."""
    pixels = torch.full((6, *SHAPE), MEAN[0], dtype=F64)
    found = {
        m.quantity: m.values for m in measure(AnalyticMoments(sigmas=(1.0,)), classifier_of(Deep()), images_of(pixels))
    }
    assert (found["expected_class"] == 0).all()
    assert (found["monte_carlo_class"] == 1).all()
    assert (found["agreement"] == 0).all()
    exact = 100 * (norm.pdf(0.5) - 0.5 * norm.sf(0.5))
    size = math.hypot(1, exact)
    assert torch.allclose(found["output_error"], torch.full((6,), exact / size, dtype=F64), atol=0.02)
    assert (found["output_error"] > 8 * found["output_uncertainty"]).all()


def test_a_dead_unit_and_no_noise_divide_nothing_by_zero() -> None:
    """A unit without weights, one that is never active, and sigma 0."""
    network = two_layers(3)
    first = next(m for m in network.modules() if isinstance(m, nn.Linear))
    with torch.no_grad():
        first.weight[0] = 0
        first.bias[1] = -1e6
    found = measure(AnalyticMoments(sigmas=(0.0, 0.1), samples=50), classifier_of(network), images_of(random_pixels(4)))
    for m in found:
        if m.quantity != "agreement" or m.at == 0:
            assert m.values.isfinite().all(), (m.quantity, m.at)
        if m.at == 0 and m.quantity.endswith(("error", "uncertainty")):
            assert (m.values < 1e-12).all(), m.quantity
    assert (curve(found, "agreement")[0] == 1).all()
    with torch.no_grad():
        first.bias[:] = -1e6
    dead = measure(AnalyticMoments(sigmas=(0.1,), samples=50), classifier_of(network), images_of(random_pixels(4)))
    assert all(
        (curve(dead, q) == 0).all() for q in ("mean_error", "deviation_error", "mean_uncertainty", "output_error")
    )


def test_evaluations_are_counted() -> None:
    """One of the image, and at each sigma one of the surrogate and the samples; at sigma 0 a single sample."""
    classifier = classifier_of(two_layers()).metered(5)
    measure(AnalyticMoments(sigmas=(0.0, 0.1, 0.2), samples=40), classifier, images_of(random_pixels(5)))
    assert torch.allclose(classifier.meter.forwards, torch.full((5,), 1 + 3 + 1 + 2 * 40.0, dtype=F64))
    assert (classifier.meter.backwards == 0).all()


def test_a_tie_is_left_open() -> None:
    """Two classes that see one pixel each have the same expected logit: chance puts one of them first."""
    network = two_layers(2)
    first, last = (m for m in network.modules() if isinstance(m, nn.Linear))
    with torch.no_grad():
        first.weight.zero_()
        first.weight[0, 0] = first.weight[1, 1] = 1.0
        first.bias.zero_()
        last.weight.copy_(torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 0.0], [0.0, 0.0]]))
        last.bias.copy_(torch.tensor([0.0, 0.0, -9.0, -9.0]))
    images = images_of(torch.full((30, *SHAPE), 0.5, dtype=F64))
    metric = AnalyticMoments(sigmas=(0.3,), samples=50)
    found = {m.quantity: m.values for m in measure(metric, classifier_of(network), images)}
    assert found["agreement"].isnan().all()
    assert set(found["monte_carlo_class"].tolist()) == {0.0, 1.0}


def test_agreement_is_open_within_the_margins() -> None:
    lead = torch.tensor([[0.0, -2.0, -3.0], [0.0, -2.0, 1.5], [0.0, -0.5, -3.0], [0.0, 0.5, -3.0]])
    own = torch.zeros(4, dtype=torch.int64)
    assert torch.equal(
        agreement(lead, torch.ones_like(lead), own).nan_to_num(nan=-1), torch.tensor([1.0, 0.0, -1.0, -1.0], dtype=F64)
    )


def test_running_moments_are_those_of_all_samples() -> None:
    values = 1e6 + torch.randn(3, 50, 2, dtype=F64, generator=torch.Generator().manual_seed(0))
    found = sampled(iter(values.split([7, 1, 42], dim=1)), values[:, 0])
    assert torch.allclose(found.mean, values.mean(1), rtol=1e-12)
    assert torch.allclose(found.deviation, values.std(1), rtol=1e-9)
    assert torch.allclose(found.error, values.std(1) / math.sqrt(50), rtol=1e-9)


def test_relative_errors_of_nothing() -> None:
    zero, one = torch.zeros(1, 2), torch.ones(1, 2)
    assert float(relative(zero, zero)) == 0
    assert float(relative(one, one)) == 1
    assert math.isnan(float(relative(one, zero)))


def test_the_chapter_counts_only_images_that_are_told_apart(tmp_path: Path) -> None:
    """Predictions are class 0 but for the last image."""
    rows = {
        ("monte_carlo_class", 0.1): [0.0, 1.0, 1.0, 1.0],
        ("agreement", 0.1): [1.0, 1.0, 0.0, np.nan],
        ("agreement", 0.5): [np.nan] * 4,
        ("monte_carlo_class", 0.5): [0.0] * 4,
        **{(quantity, at): [0.1, 0.2, 0.3, 0.4] for quantity in chapter.ERRORS for at in (0.1, 0.5)},
    }
    measured = [("analytic-moments", quantity, at, values) for (quantity, at), values in rows.items()]
    run = build_paper_run(tmp_path, "quick", [True, True, True, False], [], measurements=measured)
    (plot,), (grid,) = chapter.plots(Results(run)), chapter.grids(Results(run))
    assert "Moments, theorem 1" in plot.title
    first, second = grid.rows
    assert first[1:3] == ["0.1", "66.7 %"]
    assert first[4:7] == ["33.3 %", "1", "0.25"]
    assert second[1:6] == ["0.5", "-", "-", "-", "4"]
