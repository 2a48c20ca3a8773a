"""CLEVER against affine models, whose slopes are constant, and against a network with one known kink."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from scipy.stats import genextreme
from torch import Tensor, nn

from oracles import affine, affine_distances, random_images
from robusteval.certify.base import Radii
from robusteval.certify.extreme_value.clever import RADII, SHAPES, Clever
from robusteval.certify.extreme_value.gev import Fit
from robusteval.core.images import Images
from robusteval.core.methods import Guarantee
from robusteval.core.norms import BALLS, Norm
from robusteval.core.streams import Streams
from robusteval.models.classifier import Classifier
from robusteval.models.making import make_classifier

F64 = torch.float64


def run(certificate: Clever, classifier: Classifier, images: Images, seed: int = 1) -> Radii:
    classifier = classifier if len(classifier.rows) == len(images) else classifier.metered(len(images))
    streams = Streams.for_images(seed, certificate.label, images.ids, images.pixels)
    return certificate.radii(classifier, images, (), streams)


def column(radii: Radii, quantity: str, at: float) -> Tensor:
    (found,) = [values for name, where, values in radii.measurements if (name, where) == (quantity, at)]
    return found


def affine_case(n: int = 12) -> tuple[Classifier, Tensor, Tensor, Images]:
    """A float64 affine model of 5 classes, its weights (5, 64) and biases (5,), and images with labels of its own."""
    classifier, weight, bias = affine(4)
    images = random_images(5, n, classifier)
    return classifier.to("cpu", F64), torch.tensor(weight), torch.tensor(bias), images.to("cpu", F64)


@pytest.mark.parametrize("norm", BALLS)
def test_on_an_affine_model_it_is_the_distance_without_the_box(norm: Norm) -> None:
    """All slopes are |w_c - w_j|_*, so the maxima are tied and their value is the constant."""
    classifier, weight, bias, images = affine_case()
    radii = run(Clever(norm=norm, radius=1e6, batches=10, samples=2), classifier, images)
    scores = images.pixels.flatten(1) @ weight.T + bias
    own = images.labels[:, None]
    margin = scores.gather(1, own) - scores
    difference = weight[images.labels][:, None] - weight[None]
    exact = margin / norm.dual.size(difference.flatten(0, 1)).view(len(images), 5)
    for j in range(5):
        others = images.labels != j
        assert torch.allclose(column(radii, "clever", j)[others], exact[others, j], rtol=1e-9)
        assert column(radii, "clever", j)[~others].isnan().all()
        assert (column(radii, "clever_fit_code", j)[others] == Fit.TIED).all()
    smallest = exact.scatter(1, own, math.inf).amin(1)
    assert torch.allclose(radii.radius, smallest, rtol=1e-9)
    assert (radii.radius < smallest * (1 + 1e-12)).all()
    assert (column(radii, "clever_capped", 0) == 0).all()
    within_box = affine_distances(weight.numpy(), bias.numpy(), images, norm)
    assert (radii.radius.numpy() <= within_box + 1e-9).all()


def test_it_is_capped_at_its_radius_and_says_so() -> None:
    classifier, _, _, images = affine_case()
    free = run(Clever(norm=Norm.L2, radius=1e6, batches=3, samples=2), classifier, images).radius
    cap = float(free.median())
    radii = run(Clever(norm=Norm.L2, radius=cap, batches=3, samples=2), classifier, images)
    capped = column(radii, "clever_capped", 0) == 1
    assert 0 < capped.sum() < len(images)
    assert torch.equal(capped, free >= cap)
    assert torch.allclose(radii.radius, free.clamp_max(cap))
    assert (radii.radius <= cap).all()


def test_only_the_likeliest_targets_are_looked_at() -> None:
    classifier, weight, bias, images = affine_case()
    radii = run(Clever(norm=Norm.L2, radius=9, batches=3, samples=2, targets=2), classifier, images)
    held = torch.stack([column(radii, "clever", j) for j in range(5)], dim=1).isfinite()
    scores = images.pixels.flatten(1) @ weight.T + bias
    likeliest = scores.argsort(1, descending=True)[:, 1:3]
    assert torch.equal(held.nonzero()[:, 1].view(-1, 2), likeliest.sort(1).values)


def test_points_are_shared_by_all_targets_and_counted() -> None:
    classifier, _, _, images = affine_case()
    wrong = replace(images, labels=torch.where(torch.arange(12) == 3, (images.labels + 1) % 5, images.labels))
    metered = replace(classifier.metered(12), batch_size=7)
    radii = run(Clever(norm=Norm.LINF, batches=4, samples=3), metered, wrong)
    looked = torch.arange(12) != 3
    assert torch.equal(metered.meter.forwards, 1.0 + 12.0 * looked)
    assert torch.equal(metered.meter.backwards, 4 * 12.0 * looked)
    assert radii.radius[3] == 0
    assert (radii.radius[looked] > 0).all()
    assert all(values[3].isnan() for name, _, values in radii.measurements if name == "clever")


class Kink(nn.Module):
    """logits (0, a |x - 1/2|_2^2 - 1): the slope at distance r of the centre is 2 a r."""

    def forward(self, pixels: Tensor) -> Tensor:
        score = 3.0 * (pixels.flatten(1) - 0.5).square().sum(1) - 1
        return torch.stack([torch.zeros_like(score), score], dim=1)


def kink() -> tuple[Classifier, Images]:
    shape = (1, 2, 2)
    pixels = torch.full((8, *shape), 0.5, dtype=F64)
    images = Images(tuple(f"{i}" for i in range(8)), pixels, torch.zeros(8, dtype=torch.int64))
    return make_classifier("kink", nn.Sequential(Kink()), shape).to("cpu", F64), images


def test_the_upper_end_is_the_steepest_slope_of_the_ball() -> None:
    """From the centre the steepest slope within R is 6 R, on the ball's surface; the margin is 1, so the bound nears
    1 / (6 R), from above by what 20 x 25 points in four dimensions leave unseen."""
    classifier, images = kink()
    assert math.sqrt(1 / 3) > 0.45
    radii = run(Clever(norm=Norm.L2, radius=0.45, batches=20, samples=25), classifier, images)
    assert ((1 / radii.radius / (6 * 0.45) - 1).abs() < 0.02).all()
    codes = column(radii, "clever_fit_code", 1)
    assert set(codes.tolist()) <= {Fit.FITTED, Fit.RAISED, Fit.AT_LIMIT}
    assert len(radii.radius.unique()) == 8


@pytest.mark.parametrize("norm", BALLS)
def test_points_lie_in_the_ball_and_in_the_box(norm: Norm) -> None:
    seen: list[Tensor] = []

    class Watch(nn.Module):
        def forward(self, pixels: Tensor) -> Tensor:
            seen.append(pixels.detach())
            return pixels

    shape = (1, 4, 4)
    torch.manual_seed(0)
    network = nn.Sequential(Watch(), nn.Flatten(), nn.Linear(16, 3))
    classifier = make_classifier("watched", network, shape).to("cpu", F64)
    pixels = torch.linspace(0, 1, 16, dtype=F64).view(1, *shape)
    labels = classifier.predict(pixels).argmax(1)
    radius = {Norm.L1: 4.0, Norm.L2: 1.0, Norm.LINF: 0.3}[norm]
    seen.clear()
    run(Clever(norm=norm, radius=radius, batches=20, samples=10), classifier, Images(("a",), pixels, labels))
    points = torch.cat([p for p in seen if len(p) > 1])
    assert len(points) == 200
    assert points.min() == 0
    assert points.max() == 1
    far = norm.size(points - pixels)
    assert far.max() <= radius * (1 + 1e-12)
    assert far.max() > 0.5 * radius
    assert len(points.unique(dim=0)) == 200


def test_a_slope_that_is_not_finite_certifies_nothing() -> None:
    class Broken(nn.Module):
        def forward(self, pixels: Tensor) -> Tensor:
            score = (pixels.flatten(1) - 0.5).abs().sqrt().sum(1)
            return torch.stack([score * 0 + 5, score], dim=1)

    shape = (1, 2, 2)
    classifier = make_classifier("broken", nn.Sequential(Broken()), shape).to("cpu", F64)
    pixels = torch.tensor([0.0, 0.0, 0.0, 0.5], dtype=F64).view(1, *shape)
    # With so small a ball every point keeps its last pixel at 1/2, where the root has no derivative.
    radii = run(
        Clever(norm=Norm.LINF, radius=1e-18, batches=10, samples=2),
        classifier,
        Images(("a",), pixels, torch.tensor([0])),
    )
    assert radii.radius == 0
    assert column(radii, "clever_fit_code", 1) == Fit.NOT_FINITE


def test_a_heavy_tail_of_slopes_meets_the_limit_of_the_shape() -> None:
    """The slope at a uniform pixel x is (x + 1e-4)^-1.5: a free fit to its maxima has no upper end."""

    class Pole(nn.Module):
        def forward(self, pixels: Tensor) -> Tensor:
            score = -2 / (pixels.flatten(1)[:, 0] + 1e-4).sqrt()
            return torch.stack([score * 0, score], dim=1)

    classifier = make_classifier("pole", nn.Sequential(Pole()), (1, 1, 1)).to("cpu", F64)
    pixels = torch.full((6, 1, 1, 1), 0.5, dtype=F64)
    images = Images(tuple("abcdef"), pixels, torch.zeros(6, dtype=torch.int64))
    radii = run(Clever(norm=Norm.LINF, radius=0.5), classifier, images)
    assert (column(radii, "clever_fit_code", 1) == Fit.AT_LIMIT).all()
    assert (radii.radius > 0).all()


@pytest.mark.parametrize("norm", BALLS)
def test_by_default_it_is_an_estimate_in_a_ball_of_its_norm(norm: Norm) -> None:
    certificate = Clever(norm=norm)
    assert certificate.kind is Guarantee.ESTIMATE
    assert certificate.subject == "f"
    classifier, _, _, images = affine_case(2)
    radii = run(certificate.model_copy(update={"batches": 2, "samples": 2}), classifier, images)
    assert (radii.radius <= RADII[norm]).all()


def test_the_least_shape_is_far_in_the_tail_of_one_without_an_end() -> None:
    """What the docstring says of loc + 4 scale."""
    assert SHAPES[0] == 1 / 4
    assert genextreme.sf(4, 0) == pytest.approx(0.018, abs=5e-4)
