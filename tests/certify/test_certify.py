"""Certificates against models whose loss, slope and distance to the boundary are known in closed form."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Literal

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

from certificate_cases import CASES, run, small
from oracles import affine, affine_distances
from oracles import random_images as oracle_images
from robusteval.certify import CERTIFICATES
from robusteval.certify.base import State
from robusteval.certify.extreme_value.departure import Tangent, farthest
from robusteval.certify.extreme_value.gev import Fit, fit
from robusteval.certify.extreme_value.goodness import standard_errors
from robusteval.certify.extreme_value.l_bound import LBound
from robusteval.certify.extreme_value.loss import margin_loss, slopes
from robusteval.certify.extreme_value.omega_bound import GRIDS, OmegaBound
from robusteval.certify.smoothing.fixed import Smoothing
from robusteval.core.errors import UnsupportedError
from robusteval.core.images import Images
from robusteval.core.methods import Guarantee, Statistic
from robusteval.core.norms import BALLS, Norm
from robusteval.core.streams import Streams
from robusteval.models.classifier import Classifier
from robusteval.models.making import make_classifier
from robusteval.numerics.binomial import certified_radius

SHAPE = (1, 4, 4)
F64 = torch.float64


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
    layer = layer.double()
    difference = layer.weight[1] - layer.weight[0]
    return classifier, difference.detach(), float(layer.bias[1] - layer.bias[0])


def small_net(dtype: torch.dtype = F64) -> Classifier:
    torch.manual_seed(5)
    network = nn.Sequential(nn.Conv2d(1, 3, 3), nn.ReLU(), nn.Flatten(), nn.Linear(12, 8), nn.ReLU(), nn.Linear(8, 3))
    return make_classifier("small", network, SHAPE, mean=(0.5,), std=(0.2,)).to("cpu", dtype)


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


@pytest.mark.parametrize(("name", "norm"), [c for c in CASES if CERTIFICATES[c[0]].kind is not Guarantee.CONFIDENCE])
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
        ("clever", {"norm": "l2", "radius": 0}),
        ("clever", {"norm": "l0"}),
        ("l-bound", {"norm": "l2", "scores": "logit"}),
        ("l-bound", {"norm": "l2", "top": 0}),
        ("omega-bound", {"norm": "l2", "search": "both"}),
        ("omega-bound", {"norm": "l2", "grid": [0.2, 0.1]}),
        ("omega-bound", {"norm": "l2", "grid": [0.0, 0.1]}),
        ("smoothing", {"sigma": 0}),
        ("smoothing", {"norm": "linf"}),
        ("smoothing", {"alpha": 1.0}),
        ("smoothing-envelope", {"sigmas": []}),
        ("smoothing-envelope", {"sigmas": [0.5, 0.25]}),
        ("smoothing-envelope", {"sigmas": [0.0, 0.25]}),
        ("smoothing-sequential", {"radius": 0.0}),
        ("smoothing-sequential", {"precision": 1.0}),
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


def test_the_loss_of_logits_and_of_the_top_classes() -> None:
    logits = torch.tensor([[5.0, 3.0, 2.0, 4.0]], dtype=F64)
    assert margin_loss(logits, torch.tensor([1]), "logits") == 2
    assert margin_loss(logits, torch.tensor([1]), "logits", top=2) == 1
    assert margin_loss(logits, torch.tensor([1]), "logits", top=3) == -1
    p = logits.softmax(1)[0]
    assert float(margin_loss(logits, torch.tensor([2]), top=3)) == pytest.approx(float(p[1] - p[2]))
    with pytest.raises(UnsupportedError, match="expected top below the number of classes, 4, got 4"):
        margin_loss(logits, torch.tensor([2]), top=4)


@given(
    arrays(np.float64, (6, 5), elements=st.floats(-3, 3)),
    st.integers(1, 4),
    st.sampled_from(["logits", "probabilities"]),
)
@settings(max_examples=30)
def test_the_loss_is_negative_exactly_where_the_label_is_among_the_top(
    scores: NDArray[np.float64], top: int, kind: Literal["logits", "probabilities"]
) -> None:
    logits = torch.tensor(scores) + torch.arange(5) * 1e-3
    labels = torch.arange(6) % 5
    among = (logits.argsort(1, descending=True)[:, :top] == labels[:, None]).any(1)
    assert torch.equal(margin_loss(logits, labels, kind, top) < 0, among)


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


# Both bounds, with other losses


@pytest.mark.parametrize("norm", BALLS)
def test_both_bounds_are_exact_on_two_affine_logits(norm: Norm) -> None:
    """The loss of logits is affine: its slope is |w|_* everywhere, and it departs from its linear model by rounding."""
    classifier, w, b = linear_two_class()
    images = random_images(60)
    z = images.pixels.flatten(1) @ w + b
    images = images_of(images.pixels, (z > 0).long())
    exact = z.abs() / norm.dual.size(w[None])
    grid = tuple(np.linspace(0, 1.01 * float(exact.max()), 4)[1:].tolist())
    _, of_l = run(LBound(norm=norm, scores="logits"), classifier, images)
    state, of_omega = run(OmegaBound(norm=norm, scores="logits", grid=grid, batches=10, refits=1), classifier, images)
    omega = [s.value for s in state if s.quantity == "omega"]
    assert len(omega) == 3
    assert max(omega) < 1e-9
    for radii in (of_l, of_omega):
        assert torch.allclose(radii.radius, exact, rtol=1e-9, atol=1e-9)
        assert torch.equal(radii.predicted, images.labels)


def test_of_more_affine_logits_omega_is_not_negative() -> None:
    """The largest of affine functions is convex: it never departs downwards, and does so upwards past a kink."""
    model, weight, bias = affine(1)
    classifier = model.to("cpu", F64)
    images = oracle_images(2, 40, model).to("cpu", F64)
    certificate = OmegaBound(norm=Norm.LINF, scores="logits", grid=(0.05, 0.4), batches=12, refits=1)
    state, radii = run(certificate, classifier, images)
    assert all(s.value >= -1e-12 for s in state if s.quantity == "omega_maximum")
    assert all(s.value > 0.1 for s in state if s.quantity == "omega")
    exact = affine_distances(weight, bias, images, Norm.LINF)
    assert (radii.radius.numpy() <= exact + 1e-9).all()
    assert (radii.radius > 0).any()


@pytest.mark.parametrize("name", ["l-bound", "omega-bound"])
def test_top_k_bounds_speak_of_top_k_correctness(name: str) -> None:
    classifier, images = small_net(), random_images(30, classes=3)
    first = run(CERTIFICATES[name].model_validate(small(name, Norm.L2).model_dump()), classifier, images)[1]
    certificate = CERTIFICATES[name].model_validate(small(name, Norm.L2).model_dump() | {"top": 2})
    assert certificate.subject == "top-2(f)"
    assert small(name, Norm.L2).subject == "f"
    _, radii = run(certificate, classifier, images)
    logits = classifier.predict(images.pixels)
    least = logits.argmin(1) == images.labels
    second = ~least & (logits.argmax(1) != images.labels)
    assert least.any()
    assert second.any()
    assert (radii.radius[least] == 0).all()
    assert (first.radius[second] == 0).all()
    if name == "l-bound":
        assert (radii.radius[~least] > 0).all()
    certified = radii.radius > 0
    assert certified.any()
    assert torch.equal(radii.predicted[certified], images.labels[certified])
    assert torch.equal(radii.predicted[least], logits.argmax(1)[least])


@pytest.mark.parametrize("name", ["l-bound", "omega-bound"])
@pytest.mark.parametrize("scores", ["logits", "probabilities"])
def test_the_gradient_norm_of_each_image_is_kept(name: str, scores: Literal["logits", "probabilities"]) -> None:
    classifier, images = small_net(), random_images(10, classes=3)
    settings_of = small(name, Norm.L1).model_dump() | {"scores": scores}
    _, radii = run(CERTIFICATES[name].model_validate(settings_of), classifier, images)
    ((quantity, at, norms),) = radii.measurements
    assert (quantity, at) == ("gradient_norm", 0)
    for i in range(3):
        x = images.pixels[i : i + 1].clone().requires_grad_()
        f = classifier(x)[0] if scores == "logits" else classifier(x)[0].softmax(0)
        label = int(images.labels[i])
        (max(f[j] for j in range(3) if j != label) - f[label]).backward()
        assert x.grad is not None
        assert float(norms[i]) == pytest.approx(float(x.grad.abs().max()), rel=1e-9)


def test_the_statistics_say_how_far_a_fit_can_be_trusted() -> None:
    state, _ = run(LBound(norm=Norm.L2, batch=20, refits=19), small_net(), random_images(800, classes=3))
    values = {s.quantity: s.value for s in state if s.quantity != "maximum"}
    maxima = np.array([s.value for s in state if s.quantity == "maximum"])
    errors = [values[f"{name}_error"] for name in ("gev_shape", "gev_loc", "gev_scale", "quantile")]
    assert errors == pytest.approx(standard_errors(maxima, fit(maxima, 0.001), 0.001), nan_ok=True)
    assert (20 * values["fit_p_value"]) == pytest.approx(round(20 * values["fit_p_value"]))
    assert 0 < values["fit_p_value"] <= 1


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
    assert values["fit_code"] in (Fit.FITTED, Fit.RAISED, Fit.UNBOUNDED)
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


@pytest.mark.parametrize("norm", BALLS)
@pytest.mark.parametrize("radius", [0.05, 0.7, 4.0])
def test_a_climb_stays_in_the_ball_and_in_the_box_and_gains(norm: Norm, radius: float) -> None:
    classifier, images = small_net(), random_images(20, classes=3)
    tangent = Tangent.at(classifier, images, margin_loss)
    direction = Streams.for_images(3, "v", images.ids, images.pixels).in_ball(norm, *SHAPE)
    start = (images.pixels + radius * direction).clamp(0, 1)
    before = tangent.departure(start)
    at = start.clone().requires_grad_()
    margin_loss(classifier(at), images.labels).sum().backward()
    assert at.grad is not None
    step = farthest(images.pixels, at.grad - tangent.gradient, norm, radius)
    _, once = tangent.climbed(start, norm, radius, 1)
    assert torch.allclose(once, torch.maximum(before, tangent.departure(step)), atol=1e-12)
    near, after = tangent.climbed(start, norm, radius, 4)
    assert near.min() >= 0
    assert near.max() <= 1
    assert (norm.size(near - images.pixels) <= radius * (1 + 1e-12)).all()
    assert (after >= before).all()
    assert (after > before).any()
    assert torch.allclose(tangent.departure(near), after, atol=1e-12)
    loss = margin_loss(classifier.predict(near), images.labels) - margin_loss(
        classifier.predict(images.pixels), images.labels
    )
    linear = (tangent.gradient * (near - images.pixels)).flatten(1).sum(1)
    assert torch.allclose(after, loss - linear, atol=1e-12)


@pytest.mark.parametrize("norm", BALLS)
def test_the_farthest_image_is_the_best_of_the_ball_and_the_box(norm: Norm) -> None:
    """Of 3,000 images in both none has a larger <v, gradient>; in L2 up to what clipping costs."""
    generator = torch.Generator().manual_seed(1)
    x, gradient = (
        torch.rand(1, *SHAPE, generator=generator).double(),
        torch.randn(1, *SHAPE, generator=generator).double(),
    )
    x[0, 0, 0], x[0, 0, 2, 2] = torch.tensor([0.0, 1.0, 0.0, 1.0]), 0.0
    radius = {Norm.L1: 2.0, Norm.L2: 0.4, Norm.LINF: 0.2}[norm]
    best = farthest(x, gradient, norm, radius)
    assert norm.size(best - x) <= radius * (1 + 1e-12)
    assert best.min() >= 0
    assert best.max() <= 1
    gain = float((gradient * (best - x)).sum())
    many = Streams.for_images(0, "v", ["a"], x).select(torch.zeros(3000, dtype=torch.int64)).in_ball(norm, *SHAPE)
    others = (x + radius * many).clamp(0, 1) - x
    assert gain > float((gradient * others).flatten(1).sum(1).max())
    room = torch.where(gradient > 0, 1 - x, x)
    if norm is Norm.LINF:
        assert gain == pytest.approx(
            float((gradient.abs() * torch.where(gradient > 0, 1 - x, x).clamp_max(radius)).sum())
        )
    if norm is Norm.L2:
        # 0.98 for clipping; without the pixels at a wall it would be less than 0.94.
        assert gain > 0.98 * radius * float((gradient * (room > 0)).norm())
        assert float((gradient * (room > 0)).norm() / gradient.norm()) < 0.94
    if norm is Norm.L1:
        # A fractional knapsack: the room of the steepest pixels, until the radius is spent.
        left, value = radius, 0.0
        for i in gradient.flatten().abs().argsort(descending=True).tolist():
            taken = min(left, float(room.flatten()[i]))
            left, value = left - taken, value + taken * float(gradient.flatten()[i].abs())
        assert gain == pytest.approx(value)


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
    """The class is 1 only where a pixel is below zero: half of the noise at a black image."""
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
