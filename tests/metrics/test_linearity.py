"""Linearity against affine maps, squares, and Jacobians computed one image at a time."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from metric_cases import F64, SHAPE, curve, images_of, measure, random_pixels, small_net
from robusteval.analysis.results import Results
from robusteval.metrics.base import Measurement
from robusteval.metrics.linearity import Linearity
from robusteval.models.classifier import Classifier
from robusteval.models.making import make_classifier
from robusteval.reports.chapters.linearity import CHAPTER
from run_fixture import build_paper_run

WIDE = 120
"""Features of networks whose whole Jacobian is not computed."""


def affine_features(width: int) -> tuple[Classifier, Tensor]:
    """A network with affine features, and their matrix (width, 32)."""
    torch.manual_seed(1)
    body = nn.Linear(32, width)
    network = nn.Sequential(nn.Flatten(), body, nn.Linear(width, 3))
    classifier = make_classifier("affine", network, SHAPE, mean=(0.1, 0.2), std=(0.5, 0.5))
    return classifier.to("cpu", F64), 2 * body.weight.detach().double()


def linearity(
    classifier: Classifier, pixels: Tensor, witnesses: Tensor | None, **settings: object
) -> list[Measurement]:
    metric = Linearity.model_validate({"witnesses": "some-attack"} | settings)
    return measure(metric, classifier, images_of(pixels), witnesses)


@pytest.mark.parametrize("width", [10, WIDE])
def test_an_affine_map_is_linear_everywhere(width: int) -> None:
    classifier, matrix = affine_features(width)
    x = random_pixels(4)
    found = linearity(classifier, x, x.flip(0), distances=(0.0, 0.7, 20.0), samples=2)
    expected = torch.linalg.svdvals(matrix)[0].expand(3, 4)
    assert matrix.shape[0] == width
    for way in ("random", "adversarial"):
        assert curve(found, f"deviation_{way}").abs().max() < 1e-12
        assert torch.allclose(curve(found, f"largest_singular_value_{way}"), expected, rtol=1e-4)


@pytest.mark.parametrize("width", [8, WIDE])
@pytest.mark.parametrize("of", ["features", "logits"])
def test_towards_a_witness_it_is_what_the_definition_says(width: int, of: str) -> None:
    """By matrix for few features, from products for many: each image by itself, through torch's own Jacobian."""
    classifier, x = small_net(width), random_pixels(3)
    witnesses, distances = x + 0.2 * random_pixels(3).flip(0), (0.0, 0.5, 2.0)
    found = linearity(classifier, x, witnesses, distances=distances, samples=1, of=of)
    deviations, values = (curve(found, f"{q}_adversarial") for q in ("deviation", "largest_singular_value"))
    for i in range(3):
        z = (witnesses[i] - x[i]) / (witnesses[i] - x[i]).norm()

        def f(v: Tensor) -> Tensor:
            return (classifier.features(v[None]) if of == "features" else classifier(v[None]))[0]

        j = torch.autograd.functional.jacobian(f, x[i]).flatten(1)
        for k, d in enumerate(distances):
            deviation = (f(x[i] + d * z) - f(x[i]) - d * j @ z.flatten()).norm()
            there = torch.autograd.functional.jacobian(f, x[i] + d * z).flatten(1)
            assert float(deviations[k, i]) == pytest.approx(float(deviation), abs=1e-9)
            assert float(values[k, i]) == pytest.approx(float(torch.linalg.matrix_norm(there, 2)), rel=1e-4)


class Squares(nn.Module):
    def forward(self, pixels: Tensor) -> Tensor:
        return pixels.flatten(1) ** 2


def test_random_directions_are_uniform_on_the_sphere() -> None:
    """Of x^2 the deviation is |z^2|_2 whatever x is, and the mean of its square 3 d^4 / (D + 2)."""
    classifier = make_classifier("squares", nn.Sequential(Squares(), nn.Linear(32, 2)), SHAPE).to("cpu", F64)
    x = torch.full((1500, *SHAPE), 0.5, dtype=F64)
    found = linearity(replace(classifier, batch_size=2000), x, None, distances=(1.0, 2.0), samples=1)
    near, far = curve(found, "deviation_random")
    assert torch.allclose(far, 4 * near, rtol=1e-9)
    squares = near**2
    error = float(squares.std()) / math.sqrt(len(x))
    assert abs(float(squares.mean()) - 3 / 34) < 5 * error
    assert near.min() >= 1 / math.sqrt(32) - 1e-12
    # Their Jacobian is 2 diag(x + z): the largest singular value is twice the largest entry.
    assert (curve(found, "largest_singular_value_random")[0] <= 2 * 1.5).all()


def test_samples_are_averaged() -> None:
    classifier, x = small_net(), random_pixels(4)
    one, many = (linearity(classifier, x, None, distances=(1.0,), samples=n) for n in (1, 20))
    for quantity in ("deviation_random", "largest_singular_value_random"):
        assert (curve(one, quantity) - curve(many, quantity)).abs().min() > 1e-6
        assert torch.allclose(curve(one, quantity), curve(many, quantity), rtol=1)
    assert not [m for m in many if "adversarial" in m.quantity or "witness" in m.quantity]


def test_images_without_a_witness_have_no_adversarial_values() -> None:
    """The attack found none, or the image is misclassified and its own witness."""
    classifier, x = small_net(), random_pixels(4)
    witnesses = x.flip(0)
    witnesses[1], witnesses[2] = torch.nan, x[2]
    found = linearity(classifier, x, witnesses, distances=(0.5,), samples=1)
    for quantity in ("deviation_adversarial", "largest_singular_value_adversarial", "witness_distance"):
        values = curve(found, quantity)[0]
        assert values[[1, 2]].isnan().all()
        assert values[[0, 3]].isfinite().all()
    assert curve(found, "deviation_random").isfinite().all()
    distance = curve(found, "witness_distance")[0]
    assert float(distance[0]) == pytest.approx(float((x[3] - x[0]).norm()))
    nothing = linearity(classifier, x, torch.full_like(x, torch.nan), distances=(0.5,), samples=1)
    assert curve(nothing, "deviation_adversarial").isnan().all()
    only = linearity(classifier, x[:1], witnesses[:1], distances=(0.5,), samples=1)
    assert torch.allclose(curve(only, "deviation_adversarial")[0], curve(found, "deviation_adversarial")[0, :1])


def test_many_features_do_not_depend_on_the_batch_size() -> None:
    x = random_pixels(4)
    settings: dict[str, object] = {"distances": (1.0,), "samples": 1}
    base, *others = (linearity(small_net(WIDE, batch_size=n), x, x.flip(0), **settings) for n in (64, 1, 3))
    for other in others:
        for a, b in zip(base, other, strict=True):
            assert torch.allclose(a.values, b.values, rtol=1e-9, atol=1e-9, equal_nan=True), a.quantity


# The report


def test_the_report_has_figure_4(tmp_path: Path) -> None:
    rows = [("linearity", "deviation_random", d, [d, 3 * d, math.nan]) for d in (0.0, 1.0)]
    rows.append(("linearity", "largest_singular_value_adversarial", 0.0, [1.0, 2.0, 3.0]))
    left, right = CHAPTER.plots(Results(build_paper_run(tmp_path, "mine", [True] * 3, [], measurements=rows)))
    assert "OpNorm, figure 4 left" in left.title
    assert "OpNorm, figure 4 right" in right.title
    assert left.data["at"].tolist() == [0.0, 1.0]
    assert left.data["mean"].tolist() == [0.0, 2.0]
    assert left.data["standard_error"].tolist() == [0.0, 1.0]
    assert right.data["mean"].tolist() == [2.0]
    assert right.data["images"].tolist() == [3]
