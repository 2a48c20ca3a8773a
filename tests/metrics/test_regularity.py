"""Regularity of the loss against networks whose gradients, curvatures and moduli are known."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn

from metric_cases import F64, SHAPE, curve, images_of, linear_net, measure, random_pixels, small_net
from records import with_changes
from robusteval.analysis.results import Results
from robusteval.core.images import Images
from robusteval.core.norms import BALLS, Norm
from robusteval.metrics.base import Measurement
from robusteval.metrics.regularity import Regularity
from robusteval.models.classifier import Classifier
from robusteval.models.making import make_classifier
from robusteval.reports.chapters import regularity as chapter
from run_fixture import build_paper_run

D = 32


class Quadratic(nn.Module):
    """Logits 0 and <w, x> + x^T Q x / 2: of label 0 the loss on logits is the second."""

    def __init__(self, q: Tensor, w: Tensor) -> None:
        super().__init__()
        self.q, self.w = nn.Parameter(q), nn.Parameter(w)

    def forward(self, pixels: Tensor) -> Tensor:
        x = pixels.flatten(1)
        value = x @ self.w + (x @ self.q * x).sum(1) / 2
        return torch.stack([torch.zeros_like(value), value], dim=1)


def quadratic(q: Tensor, w: Tensor) -> Classifier:
    return make_classifier("quadratic", Quadratic(q.float(), w.float()), SHAPE).to("cpu", F64)


def symmetric(seed: int = 0) -> Tensor:
    q = torch.randn(D, D, generator=torch.Generator().manual_seed(seed))
    return (q + q.T).double() / 4


def measured(norm: Norm, classifier: Classifier, images: Images, **settings: Any) -> list[Measurement]:
    return measure(Regularity(norm=norm, scores="logits", **settings), classifier, images)


def values(found: list[Measurement], quantity: str) -> Tensor:
    return curve(found, quantity)[0]


@pytest.mark.parametrize("norm", BALLS)
def test_a_quadratic_loss_in_closed_form(norm: Norm) -> None:
    """The gradient is w + Q x, the curvature d^T Q d, and eq. 9 is off by h / 2 of it: differences of second order are
    exact on a quadratic. d is the gradient, its signs or its largest entry, of L2 length 1."""
    q, w, images, h = symmetric(), torch.linspace(-2, 3, D).double(), images_of(random_pixels(6)), 0.05
    found = measured(norm, quadratic(q, w), images, h=h, steps=1, samples=1)
    gradient = w.float() + images.pixels.flatten(1) @ q.float().double()
    largest = torch.zeros_like(gradient)
    at = gradient.abs().argmax(1)
    largest[range(6), at] = gradient[range(6), at].sign()
    ascent = {Norm.L1: largest, Norm.L2: gradient, Norm.LINF: gradient.sign()}[norm]
    d = ascent / ascent.norm(dim=1, keepdim=True)
    size = torch.linalg.vector_norm(gradient, ord={Norm.L1: math.inf, Norm.L2: 2, Norm.LINF: 1}[norm], dim=1)
    curved = (d @ q.float().double() * d).sum(1)
    assert torch.allclose(values(found, "gradient_norm"), size, rtol=1e-9)
    assert torch.allclose(values(found, "curvature"), curved, rtol=1e-7, atol=1e-9)
    slope = (gradient * d).sum(1) + h / 2 * curved
    forward = slope * size / (gradient * d).sum(1)
    assert torch.allclose(values(found, "gradient_norm_difference"), forward, rtol=1e-9)


def test_the_label_chooses_the_sign() -> None:
    """For label 1 the loss is the negative: a misclassified image is measured like any other."""
    classifier, images = quadratic(symmetric(), torch.ones(D)), images_of(random_pixels(3))
    other = Images(images.ids, images.pixels, torch.ones(3, dtype=torch.int64))
    ours, theirs = (measured(Norm.L2, classifier, i) for i in (images, other))
    assert torch.allclose(values(ours, "gradient_norm"), values(theirs, "gradient_norm"))
    assert torch.allclose(values(ours, "curvature"), -values(theirs, "curvature"), rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize(("norm", "largest"), [(Norm.L1, 0.5), (Norm.L2, 0.5), (Norm.LINF, 0.5 * D)])
def test_the_modulus_of_a_round_bowl_is_exact(norm: Norm, largest: float) -> None:
    """c |v|^2 / 2 is largest at any point of the sphere, at a corner of the cube, and on an axis of the cross-polytope;
    where it opens downwards nothing is above the linear model."""
    images, radii, c = images_of(torch.full((4, *SHAPE), 0.5, dtype=F64)), (0.1, 0.2, 0.4), 3.0
    up, down = (
        measured(norm, quadratic(sign * c * torch.eye(D).double(), torch.ones(D)), images, radii=radii, samples=3)
        for sign in (1, -1)
    )
    exact = c * largest * torch.tensor(radii, dtype=F64)[:, None].square()
    ascent, sampled = curve(up, "omega_ascent"), curve(up, "omega_sampled")
    assert torch.allclose(ascent, exact.expand(3, 4), rtol=1e-9)
    assert (sampled > 0).all()
    assert (sampled < ascent).all()
    assert (curve(down, "omega_ascent") == 0).all()
    assert (curve(down, "omega_sampled") == 0).all()


def test_sampled_moduli_are_those_of_points_uniform_in_the_ball() -> None:
    """|v|^2 of a point uniform in the unit ball has the mean D / (D + 2); the largest of k the mean D k / (D k + 2)."""
    images = images_of(torch.full((400, *SHAPE), 0.5, dtype=F64))
    for samples in (1, 4):
        found = measured(
            Norm.L2, quadratic(2 * torch.eye(D).double(), torch.ones(D)), images, radii=(0.3,), samples=samples
        )
        shares = values(found, "omega_sampled") / 0.3**2
        assert float(shares.max()) < 1
        error = float(shares.std()) / math.sqrt(400)
        assert abs(float(shares.mean()) - D * samples / (D * samples + 2)) < 5 * error


def test_ascent_finds_the_worst_direction_and_never_more() -> None:
    """Of a loss with one steep direction: lambda eps^2 / 2, by a power iteration that goes on between radii."""
    q = torch.diag(torch.linspace(0.2, 1.0, D)).double()
    q[5, 5] = 6.0
    images, radii = images_of(torch.full((5, *SHAPE), 0.5, dtype=F64)), (0.1, 0.2, 0.3)
    found = measured(Norm.L2, quadratic(q, torch.ones(D)), images, radii=radii, samples=5, steps=8)
    bound = 6.0 / 2 * torch.tensor(radii, dtype=F64)[:, None].square()
    ascent = curve(found, "omega_ascent")
    assert (ascent <= bound * (1 + 1e-6)).all()
    assert (ascent > 0.999 * bound).all()
    assert (curve(found, "omega_sampled") < 0.5 * bound).all()
    # The second radius goes on from the first, even with a single step.
    single = measured(Norm.L2, quadratic(q, torch.ones(D)), images, radii=radii, samples=1, steps=1)
    share = curve(single, "omega_ascent") / bound
    assert (share[1] > share[0]).all()
    assert (share[2] > share[1]).all()


def test_the_modulus_stays_in_the_box() -> None:
    """The first pixel alone counts, and it may fall by 0.9 or rise by 0.1."""
    q = torch.zeros(D, D).double()
    q[0, 0] = 2.0
    images = images_of(torch.full((3, *SHAPE), 0.9, dtype=F64))
    found = measured(Norm.L2, quadratic(q, torch.ones(D)), images, radii=(5.0,))
    assert torch.allclose(values(found, "omega_ascent"), torch.full((3,), 0.81, dtype=F64), rtol=1e-6)
    assert (values(found, "omega_sampled") < 0.81 + 1e-9).all()


def softmax_loss(w: Tensor, b: float, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """l = p_1 - p_0 = tanh(z / 2) of z = <w, x> + b, and its first two derivatives along w / |w|."""
    z = x.flatten(1) @ w + b
    t, size = (z / 2).tanh(), w.norm()
    slope = (1 - t**2) / 2
    return t, slope * size, -t * slope * size**2


def test_affine_logits_under_softmax_and_the_order_of_the_differences() -> None:
    """The curvature of tanh. Halving h quarters the error of the curvature (h^2) and halves that of eq. 9 (h)."""
    w, b, images = torch.linspace(-0.5, 0.625, D), 0.375, images_of(random_pixels(5))
    _, slope, second = softmax_loss(w.double(), b, images.pixels)
    errors = []
    for h in (0.02, 0.01):
        found = measure(Regularity(norm=Norm.L2, h=h), linear_net(w, b), images)
        assert torch.allclose(values(found, "gradient_norm"), slope, rtol=1e-6)
        errors.append(
            (
                (values(found, "curvature") - second).abs(),
                (values(found, "gradient_norm_difference") - slope).abs(),
                (values(found, "gradient_norm_difference") - slope - h / 2 * second).abs(),
            )
        )
    for order, coarse, fine in zip((2, 1, 2), *errors, strict=True):
        assert torch.allclose(coarse / fine, torch.full_like(coarse, 2.0**order), rtol=0.1)
    assert torch.allclose(values(found, "curvature"), second, rtol=1e-2)


def test_the_curvature_is_that_of_the_hessian() -> None:
    classifier, images = small_net(), images_of(random_pixels(3))
    metric = Regularity(norm=Norm.L2, h=1e-3)
    found = measure(metric, classifier, images)
    for k, x in enumerate(images.pixels):

        def loss(v: Tensor) -> Tensor:
            return metric.loss(classifier(v.view(1, *SHAPE)), torch.zeros(1, dtype=torch.int64))[0]

        gradient = torch.autograd.functional.jacobian(loss, x.flatten())
        hessian = torch.autograd.functional.hessian(loss, x.flatten())
        d = gradient / gradient.norm()
        assert float(values(found, "curvature")[k]) == pytest.approx(float(d @ hessian @ d), rel=1e-4, abs=1e-6)
        assert float(values(found, "gradient_norm")[k]) == pytest.approx(float(gradient.norm()), rel=1e-9)


def test_single_precision_is_good_to_the_rounding_of_the_loss() -> None:
    """A linear loss has no curvature: in float32 what is left is 4 u |l| / h^2, |l| the terms that it is the sum of."""
    w = torch.linspace(-30, 33, D)
    images = images_of(random_pixels(40).float())
    b = -float((images.pixels.flatten(1) @ w).mean())
    classifier = linear_net(w, b).to("cpu", torch.float32)
    found = measure(Regularity(norm=Norm.L2, scores="logits", h=0.01), classifier, images)
    values_seen = images.pixels.flatten(1).double() @ w.double()
    # The terms of the sum, before b takes them near zero, are what is rounded.
    size = float((images.pixels.flatten(1) * w).abs().sum(1).max()) + abs(b) + float(values_seen.abs().max())
    assert float(values(found, "curvature").abs().max()) < 4 * 6e-8 * size / 0.01**2
    assert values(found, "curvature").dtype == F64


def test_a_flat_loss_has_no_direction() -> None:
    """d = 0: the difference is 0 as the paper has it, a curvature along nothing is none."""
    classifier = linear_net(torch.zeros(D), 0.5)
    for norm in BALLS:
        found = measure(Regularity(norm=norm), classifier, images_of(random_pixels(3)))
        for quantity in ("gradient_norm", "gradient_norm_difference"):
            assert (values(found, quantity) == 0).all()
        assert values(found, "curvature").isnan().all()
        assert (curve(found, "omega_ascent") == 0).all()
        assert (curve(found, "omega_sampled") == 0).all()


def test_the_cost_and_the_radii() -> None:
    classifier = small_net().metered(4)
    found = measure(Regularity(norm=Norm.L2, samples=7, steps=3), classifier, images_of(random_pixels(4)))
    assert [m.at for m in found if m.quantity == "omega_ascent"] == [0.5, 1.0]
    # One gradient and two differences; at each of two radii 7 samples, the way so far, 3 steps and the end.
    assert torch.allclose(classifier.meter.forwards, torch.full((4,), 3 + 2 * (7 + 1 + 3 + 1.0), dtype=F64))
    assert torch.allclose(classifier.meter.backwards, torch.full((4,), 1 + 2 * 3.0, dtype=F64))
    sampled, ascent = curve(found, "omega_sampled"), curve(found, "omega_ascent")
    assert (sampled <= ascent).all()
    assert (ascent[0] <= ascent[1]).all()
    assert Regularity(norm=Norm.LINF).label == "regularity-linf"
    for setting in ({"radii": [1.0, 0.5]}, {"radii": [0.0]}, {"h": 0}, {"samples": 0}, {"norm": "l0"}):
        with pytest.raises(ValidationError):
            Regularity.model_validate({"norm": "l2"} | setting)


def test_the_chapter_has_the_columns_of_table_3(tmp_path: Path) -> None:
    label = "regularity"
    rows = {
        ("gradient_norm", 0.0): [1.0, 2.0, 3.0, 6.0],
        ("gradient_norm_difference", 0.01): [1.0, 2.0, 3.0, 5.0],
        ("curvature", 0.01): [-4.0, np.nan, 2.0, 8.0],
        ("omega_ascent", 0.5): [0.1, 0.2, 0.3, 0.7],
    }
    run = build_paper_run(
        tmp_path, "quick", [True] * 4, [], measurements=[(label, q, at, v) for (q, at), v in rows.items()]
    )
    run = with_changes(run, label, norm=Norm.L2)
    (grid,) = chapter.grids(Results(run))
    cells = {row[1]: row[2:] for row in grid.rows}
    assert cells["|grad l|"][0] == "3"
    assert cells["|grad l|"][2:] == ["6", "4"]
    assert cells["curvature along the gradient, h = 0.01"][0] == "2"
    assert cells["curvature along the gradient, h = 0.01"][3] == "3"
    assert cells["omega, by ascent, eps = 0.5"][2] == "0.7"
    low, high = (float(x) for x in cells["|grad l|"][1].split(" to "))
    assert 0 <= low < 3 < high
    (plot,) = chapter.plots(Results(run))
    assert "GradReg, table 3" in plot.title
    assert plot.data.groupby("quantity")["share"].max().eq(1).all()
