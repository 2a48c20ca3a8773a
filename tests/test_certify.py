"""Certificates against models whose loss, slope and distance to the boundary are known in closed form."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from pydantic import ValidationError
from scipy.stats import binom, genextreme, norm
from statsmodels.stats.proportion import proportion_confint
from torch import Tensor, nn

from robusteval.certify import CERTIFICATES
from robusteval.certify.base import Certificate, Radii, State, Statistic
from robusteval.certify.gev import Fit, fit
from robusteval.certify.l_bound import LBound
from robusteval.certify.loss import margin_loss, slopes
from robusteval.certify.omega_bound import GRIDS, OmegaBound
from robusteval.certify.smoothing import Smoothing, certified_radius
from robusteval.classifier import Classifier, make_classifier
from robusteval.images import Images
from robusteval.methods import Guarantee
from robusteval.norms import BALLS, Norm
from robusteval.streams import Streams

SHAPE = (1, 4, 4)
F64 = torch.float64


def ignore(done: int, total: int) -> None:
    assert 0 < done <= total


def images_of(pixels: Tensor, labels: Tensor) -> Images:
    return Images(tuple(f"{i:04d}" for i in range(len(pixels))), pixels, labels, source="test")


def random_images(n: int, shape: tuple[int, int, int] = SHAPE, classes: int = 2) -> Images:
    generator = torch.Generator().manual_seed(7)
    pixels = torch.rand(n, *shape, generator=generator).double()
    return images_of(pixels, torch.randint(classes, (n,), generator=generator))


def with_batch_size(classifier: Classifier, size: int) -> Classifier:
    return replace(classifier, batch_size=size)


def linear_two_class(scale: float = 3.0) -> tuple[Classifier, Tensor, float]:
    """logit_1 - logit_0 = <w, x> + b; gives (classifier in float64, w (16,), b)."""
    generator = torch.Generator().manual_seed(3)
    layer = nn.Linear(16, 2)
    w = scale * torch.randn(16, generator=generator)
    b = -float(w.sum()) / 2
    with torch.no_grad():
        layer.weight.copy_(torch.stack([-0.25 * w, 0.75 * w]))
        layer.bias.copy_(torch.tensor([0.0, b]))
    classifier = make_classifier("linear", nn.Sequential(nn.Flatten(), layer), SHAPE).to("cpu", F64)
    difference = layer.weight[1] - layer.weight[0]
    return classifier, difference.detach(), float(layer.bias[1] - layer.bias[0])


def small_net(dtype: torch.dtype = F64) -> Classifier:
    torch.manual_seed(5)
    network = nn.Sequential(nn.Conv2d(1, 3, 3), nn.ReLU(), nn.Flatten(), nn.Linear(12, 8), nn.ReLU(), nn.Linear(8, 3))
    return make_classifier("small", network, SHAPE, mean=(0.5,), std=(0.2,)).to("cpu", dtype)


def run(certificate: Certificate, classifier: Classifier, images: Images) -> tuple[State, Radii]:
    """As the audit does: prepared on images sorted by id, radii with a stream an image."""
    classifier = classifier if len(classifier.rows) == len(images) else classifier.metered(len(images))
    ordered = images.by_id()
    of_set = Streams.for_set(1, certificate.label, images.pixels)
    state = certificate.prepare(classifier, ordered, of_set, ignore)
    of_images = Streams.for_images(1, certificate.label, images.ids, images.pixels)
    return state, certificate.radii(classifier, images, state, of_images)


def small(name: str, norm: Norm) -> Certificate:
    """A cheap setting of any certificate; a new one must be added here."""
    settings_of = {
        "crown": {"norm": norm},
        "ibp": {"norm": norm},
        "l-bound": {"norm": norm},
        "lipschitz": {"norm": norm},
        "omega-bound": {"norm": norm, "grid": GRIDS[norm][1:3], "batches": 30},
        "smoothing": {"norm": norm, "n": 100, "n0": 20, "alpha": 0.01},
    }
    return CERTIFICATES[name].model_validate(settings_of[name])


CASES = [(name, n) for name, certificate in CERTIFICATES.items() for n in certificate.norms]


# Every certificate


@pytest.mark.parametrize("dtype", [torch.float32, F64])
@pytest.mark.parametrize(("name", "norm"), CASES)
def test_every_certificate_runs_in_every_norm(name: str, norm: Norm, dtype: torch.dtype) -> None:
    certificate = small(name, norm)
    assert certificate.summary
    assert "\n" not in certificate.summary
    assert len(type(certificate).__doc__ or "") > 200
    pixels, classifier = random_images(30).pixels.to(dtype), small_net(dtype)
    images = images_of(pixels, classifier.predict(pixels).argmax(1))
    state, radii = run(certificate, classifier, images)
    assert radii.radius.shape == radii.predicted.shape == radii.abstained.shape == (30,)
    assert radii.radius.dtype == F64
    assert radii.radius.isfinite().all()
    assert (radii.radius >= 0).all()
    assert (radii.radius > 0).any()
    assert (radii.radius[radii.abstained] == 0).all()
    assert (certificate.error_probability is not None) == (certificate.kind is Guarantee.CONFIDENCE)
    assert all(isinstance(s.value, float) for s in state)


@pytest.mark.parametrize(("name", "norm"), CASES)
def test_results_do_not_depend_on_batch_size_order_or_company(name: str, norm: Norm) -> None:
    certificate, images = small(name, norm), random_images(25, classes=3)
    state, radii = run(certificate, with_batch_size(small_net(), 64), images)
    shuffled = torch.randperm(25, generator=torch.Generator().manual_seed(2))
    for size, order in [(1, torch.arange(25)), (7, torch.arange(25)), (64, shuffled)]:
        other_state, other = run(certificate, with_batch_size(small_net(), size), images.select(order))
        assert (other.radius - radii.radius[order]).abs().max() < 1e-9
        assert torch.equal(other.predicted, radii.predicted[order])
        for ours, theirs in zip(state, other_state, strict=True):
            assert (ours.quantity, ours.at) == (theirs.quantity, theirs.at)
            assert ours.value == pytest.approx(theirs.value, rel=1e-9, abs=1e-9, nan_ok=True)
    alone = torch.tensor([11])
    streams = Streams.for_images(1, certificate.label, images.select(alone).ids, images.pixels)
    single = certificate.radii(small_net(), images.select(alone), state, streams)
    assert abs(float(single.radius - radii.radius[11])) < 1e-9


@pytest.mark.parametrize(("name", "norm"), [c for c in CASES if c[0] != "smoothing"])
def test_misclassified_images_get_zero(name: str, norm: Norm) -> None:
    classifier, images = small_net(), random_images(20, classes=3)
    predicted = classifier.predict(images.pixels).argmax(1)
    wrong = images_of(images.pixels, (predicted + 1) % 3)
    _, radii = run(small(name, norm), classifier, wrong)
    assert (radii.radius == 0).all()
    assert torch.equal(radii.predicted, predicted)


@pytest.mark.parametrize(
    ("name", "setting"),
    [
        ("l-bound", {"norm": "l2", "p": 0}),
        ("l-bound", {"norm": "l2", "batchs": 3}),
        ("l-bound", {}),
        ("omega-bound", {"norm": "l2", "grid": [0.2, 0.1]}),
        ("omega-bound", {"norm": "l2", "grid": [0.0, 0.1]}),
        ("smoothing", {"sigma": 0}),
        ("smoothing", {"norm": "linf"}),
        ("smoothing", {"alpha": 1.0}),
    ],
)
def test_settings_that_make_no_sense_are_refused(name: str, setting: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        CERTIFICATES[name].model_validate(setting)


# The loss


def test_margin_loss_is_the_difference_of_probabilities() -> None:
    logits = torch.log(torch.tensor([[0.5, 0.3, 0.2], [0.1, 0.2, 0.7]], dtype=F64))
    loss = margin_loss(logits, torch.tensor([0, 1]))
    assert torch.allclose(loss, torch.tensor([-0.2, 0.5], dtype=F64), atol=1e-12)


@pytest.mark.parametrize("norm", BALLS)
def test_slopes_match_the_closed_form(norm: Norm) -> None:
    """For two classes l = -tanh(z / 2), so |grad l|_* = |w|_* / (2 cosh^2(z / 2))."""
    classifier, w, b = linear_two_class()
    images = random_images(40)
    z = (images.pixels.flatten(1) @ w + b) * (2 * images.labels - 1)
    found = slopes(with_batch_size(classifier, 7), images, norm)
    assert torch.allclose(found.margin, torch.tanh(z / 2), atol=1e-12)
    expected = norm.dual.size(w[None]) / (2 * torch.cosh(z / 2) ** 2)
    assert torch.allclose(found.slope, expected, rtol=1e-9, atol=1e-12)


# L-bound


@pytest.mark.parametrize("norm", BALLS)
def test_l_bound_is_below_the_distance_once_the_steepest_point_was_seen(norm: Norm) -> None:
    """The slope is largest, |w|_* / 2, on the boundary; an image there makes L a Lipschitz constant."""
    classifier, w, b = linear_two_class()
    images = random_images(60)
    x = images.pixels.flatten(1)
    x[0] -= w * (x[0] @ w + b) / (w @ w)
    z = x @ w + b
    images = images_of(x.view(-1, *SHAPE), (z > 0).long())
    state, radii = run(LBound(norm=norm), classifier, images)
    values = {s.quantity: s.value for s in state if s.quantity != "maximum"}
    steepest = float(norm.dual.size(w[None])) / 2
    assert values["observed_maximum"] == pytest.approx(steepest, rel=1e-9)
    assert values["L"] >= values["observed_maximum"]
    assert len([s for s in state if s.quantity == "maximum"]) == 50
    exact = z.abs() / (2 * steepest)
    assert (radii.radius <= exact + 1e-12).all()
    expected = torch.tanh(z.abs() / 2) / values["L"]
    assert torch.allclose(radii.radius, expected, atol=1e-12)


def test_l_is_the_quantile_of_the_fit() -> None:
    certificate = LBound(norm=Norm.L2, p=0.01, batch=20)
    state, _ = run(certificate, small_net(), random_images(800, classes=3))
    values = {s.quantity: s.value for s in state if s.quantity != "maximum"}
    quantile = genextreme.isf(0.01, values["gev_shape"], values["gev_loc"], values["gev_scale"])
    assert values["L"] == pytest.approx(max(quantile, values["observed_maximum"]))
    assert values["fit_code"] in (Fit.FITTED, Fit.RAISED)
    assert (values["fit_code"] == Fit.RAISED) == (quantile < values["observed_maximum"])


def test_l_is_at_least_the_largest_slope_of_the_set_though_no_batch_drew_it() -> None:
    classifier, images = small_net(), random_images(100, classes=3)
    state, _ = run(LBound(norm=Norm.L2, batches=3, batch=1), classifier, images)
    largest = float(slopes(classifier, images, Norm.L2).slope.max())
    assert max(s.value for s in state if s.quantity == "maximum") < largest
    values = {s.quantity: s.value for s in state}
    assert values["fit_code"] == Fit.TOO_FEW
    assert values["L"] == pytest.approx(largest)


def test_l_bound_of_a_single_image_falls_back_to_what_was_seen() -> None:
    classifier, _, _ = linear_two_class()
    state, _ = run(LBound(norm=Norm.L2), classifier, random_images(1))
    values = {s.quantity: s.value for s in state}
    assert values["fit_code"] == Fit.TIED
    assert values["L"] == values["observed_maximum"] == values["maximum"] > 0


def test_l_bound_of_a_constant_network_certifies_nothing() -> None:
    layer = nn.Linear(16, 2)
    nn.init.zeros_(layer.weight)
    classifier = make_classifier("constant", nn.Sequential(nn.Flatten(), layer), SHAPE).to("cpu", F64)
    for certificate in (LBound(norm=Norm.L2), OmegaBound(norm=Norm.L2, grid=(0.1,))):
        _, radii = run(certificate, classifier, random_images(20))
        assert radii.radius.isfinite().all()


# omega-bound


@pytest.mark.parametrize("norm", BALLS)
def test_omega_is_monotone_not_negative_and_its_samples_stay_below_the_curvature(norm: Norm) -> None:
    """|d^2/dz^2 tanh(z / 2)| <= 1 / (3 sqrt 3), so a departure is at most (eps |w|_*)^2 / (6 sqrt 3)."""
    classifier, w, _ = linear_two_class()
    certificate = OmegaBound(norm=norm, grid=GRIDS[norm][:6:2], batches=20, batch=10)
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


class Extremes(nn.Module):
    """Remembers the smallest and the largest pixel that it was shown."""

    low, high = math.inf, -math.inf

    def forward(self, pixels: Tensor) -> Tensor:
        self.low = min(self.low, pixels.min().item())
        self.high = max(self.high, pixels.max().item())
        return pixels


@pytest.mark.parametrize("norm", BALLS)
def test_omega_looks_at_pictures_only(norm: Norm) -> None:
    seen, images = Extremes(), random_images(20)
    classifier = make_classifier("seen", nn.Sequential(seen, nn.Flatten(), nn.Linear(16, 2)), SHAPE)
    certificate = OmegaBound(norm=norm, grid=(5.0,), batches=5, batch=10)
    run(certificate, classifier.to("cpu", F64), images)
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


# GEV


@pytest.mark.parametrize("shape", [-0.3, -0.1, 0.0, 0.2, 0.4])
def test_gev_fit_recovers_the_parameters(shape: float) -> None:
    """Within 4.5 asymptotic standard errors, from the observed information at the truth."""
    truth = np.array([shape, 3.0, 2.0])
    x = genextreme.rvs(*truth, size=2000, random_state=np.random.default_rng(11))
    found = fit(x, 0.001)
    h = 1e-3 * np.eye(3)

    def likelihood(theta: NDArray[np.float64]) -> float:
        return float(-genextreme.logpdf(x, *theta).sum())

    hessian = np.array(
        [
            [
                sum(s * t * likelihood(truth + s * h[i] + t * h[j]) for s, t in product((1, -1), repeat=2))
                for j in range(3)
            ]
            for i in range(3)
        ]
    ) / (4 * 1e-6)
    error = np.sqrt(np.diag(np.linalg.inv(hessian)))
    assert np.isfinite(error).all()
    assert (np.abs(np.array([found.shape, found.loc, found.scale]) - truth) < 4.5 * error).all()
    assert likelihood(np.array([found.shape, found.loc, found.scale])) <= likelihood(truth)
    quantile = genextreme.isf(0.001, found.shape, found.loc, found.scale)
    assert found.estimate == pytest.approx(max(quantile, x.max()))


@pytest.mark.parametrize("seed", range(8))
def test_gev_fit_is_as_likely_as_scipys(seed: int) -> None:
    rng = np.random.default_rng(seed)
    x = rng.gamma(2, size=(50, 30)).max(1)
    found = fit(x, 0.001)
    ours = genextreme.logpdf(x, found.shape, found.loc, found.scale).sum()
    theirs = genextreme.logpdf(x, *genextreme.fit(x)).sum()
    assert ours >= theirs - 1e-5


@given(scale=st.floats(1e-6, 1e6), shift=st.floats(-100, 100))
@settings(max_examples=8, deadline=None)
def test_gev_fit_moves_with_the_data(scale: float, shift: float) -> None:
    x = genextreme.rvs(0.1, size=50, random_state=np.random.default_rng(1))
    base, moved = fit(x, 0.001), fit(scale * (x + shift), 0.001)
    assert moved.shape == pytest.approx(base.shape, abs=1e-5)
    assert moved.estimate == pytest.approx(scale * (base.estimate + shift), abs=1e-4 * scale)


@pytest.mark.parametrize(
    ("maxima", "code"),
    [
        ([], Fit.TOO_FEW),
        ([1.0, 2.0], Fit.TOO_FEW),
        ([0.0] * 50, Fit.TIED),
        ([3.0] * 50, Fit.TIED),
        ([3.0 + 1e-12 * i for i in range(50)], Fit.TIED),
        ([0.0] * 30 + [float(i) for i in range(20)], Fit.TIED),
        ([1.0] * 49 + [math.inf], Fit.NOT_FINITE),
        ([1.0] * 49 + [math.nan], Fit.NOT_FINITE),
    ],
)
def test_gev_fit_says_why_it_did_not_fit(maxima: list[float], code: Fit) -> None:
    found = fit(np.array(maxima), 0.001)
    assert found.code is code
    assert math.isnan(found.shape)
    expected = math.inf if code is Fit.NOT_FINITE else max(maxima, default=-math.inf)
    assert found.estimate == expected


def test_gev_estimate_is_raised_to_what_was_observed() -> None:
    x = genextreme.rvs(0.3, size=100, random_state=np.random.default_rng(4))
    quantile = fit(x, 0.001).estimate
    raised = fit(x, 0.001, observed=quantile + 1)
    assert raised.code is Fit.RAISED
    assert raised.estimate == quantile + 1


def test_gev_shape_stops_at_the_limit_where_the_likelihood_has_no_maximum() -> None:
    found = fit(1 - np.random.default_rng(0).random(50) ** 3, 0.001)
    assert found.code is Fit.AT_LIMIT
    assert found.estimate <= 1.5


@given(arrays(np.float64, st.integers(0, 40), elements=st.floats(-1e300, 1e300)))
@settings(max_examples=25, deadline=None)
def test_gev_fit_never_fails(maxima: NDArray[np.float64]) -> None:
    found = fit(maxima, 0.001)
    assert found.n == len(maxima)
    assert not math.isnan(found.estimate)
    assert found.estimate >= np.max(maxima, initial=-np.inf)


# Smoothing


@pytest.mark.parametrize("alpha", [0.001, 0.05])
@pytest.mark.parametrize("samples", [1, 20, 150])
def test_certified_radius_is_wrong_with_probability_at_most_alpha(samples: int, alpha: float) -> None:
    """Exactly, by summing the binomial distribution over all counts, for many true probabilities."""
    counts = np.arange(samples + 1)
    radius = certified_radius(counts, samples, alpha, 0.5)
    assert (np.diff(radius) >= 0).all()
    for p in np.linspace(0.5, 0.999, 60):
        wrong = radius > 0.5 * norm.ppf(p)
        assert binom.pmf(counts[wrong], samples, p).sum() <= alpha + 1e-12


def test_certified_radius_rests_on_clopper_and_pearson() -> None:
    counts = np.arange(1, 101)
    radius = certified_radius(counts, 100, 0.001, 2.0)
    lower, _ = proportion_confint(counts, 100, alpha=0.002, method="beta")
    expected = np.where(lower > 0.5, 2 * norm.ppf(lower), 0)
    assert np.allclose(radius, expected, rtol=1e-12)
    assert (radius <= expected).all()
    assert certified_radius(np.array([0]), 100, 0.001, 2.0) == 0


def test_smoothing_of_a_linear_network_meets_the_exact_radius() -> None:
    """g = f there, so the exact radius is the distance to the plane: exceeded as rarely as error says, and
    missed by no more than the sampling explains."""
    classifier, w, b = linear_two_class()
    images = random_images(400)
    z = images.pixels.flatten(1) @ w + b
    exact = (z.abs() / w.norm()).numpy()
    images = images_of(images.pixels, (z > 0).long())
    sigma, samples, error = 0.4, 300, 0.05
    certificate = Smoothing(sigma=sigma, n=samples, n0=50, alpha=error)
    _, radii = run(certificate, classifier, images)
    named = radii.predicted == images.labels
    radius = radii.radius.numpy()
    wrong = np.where(named.numpy(), radius > exact, radius > 0).sum()
    assert wrong <= binom.isf(1e-6, len(images), error)
    p = norm.cdf(exact / sigma)
    least = certified_radius(binom.ppf(1e-8, samples, p).astype(np.int64), samples, error, sigma)
    assert (radius[named.numpy()] >= least[named.numpy()]).all()
    assert (radius > 0).mean() > 0.3
    counts = {quantity: values for quantity, _, values in radii.measurements}
    assert (counts["smoothing_samples"] == samples).all()
    again = certified_radius(counts["smoothing_count"].long().numpy(), samples, error, sigma)
    assert np.array_equal(again, radius)
    assert certificate.subject == "smooth(f, 0.4)"


def test_smoothing_noise_is_not_clipped_to_the_box() -> None:
    """The class is 1 only where a pixel is below zero: half of the noise at a black picture."""
    layer = nn.Linear(1, 2)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[1.0], [-1.0]]))
        layer.bias.zero_()
    classifier = make_classifier("sign", nn.Sequential(nn.Flatten(), layer), (1, 1, 1))
    images = images_of(torch.zeros(1, 1, 1, 1), torch.zeros(1, dtype=torch.int64))
    _, radii = run(Smoothing(n=400), classifier, images)
    (_, _, count), _ = radii.measurements
    assert binom.ppf(1e-6, 400, 0.5) <= float(count) <= binom.isf(1e-6, 400, 0.5)
    assert radii.abstained.all()


def test_smoothing_counts_its_evaluations() -> None:
    images = random_images(5, classes=3)
    classifier = small_net().metered(5)
    run(Smoothing(n=70, n0=10), classifier, images)
    assert (classifier.meter.forwards == 80).all()
    assert (classifier.meter.backwards == 0).all()
