"""Softmax outputs along a line against the closed form of an affine network."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from metric_cases import F64, SHAPE, images_of, linear_net, observe, random_pixels, small_net
from robusteval.core.errors import UnsupportedError
from robusteval.metrics.base import Observation
from robusteval.metrics.softmax_line import SoftmaxLine
from robusteval.models.classifier import Classifier
from robusteval.models.making import make_classifier


def rows_of(seen: Observation, quantity: str) -> dict[float, Tensor]:
    return {m.at: m.values for m in seen.measurements if m.quantity == quantity}


def affine(classes: int) -> Classifier:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(32, classes))
    return make_classifier("affine", network, SHAPE, mean=(0.5, 0.4), std=(0.2, 0.3)).to("cpu", F64)


def test_an_affine_network_has_a_softmax_of_straight_logits() -> None:
    """Far outside the box too: nothing is clipped."""
    classifier, x, y = affine(4), random_pixels(5), random_pixels(5).flip(0)
    z0, z1 = classifier.predict(x), classifier.predict(y)
    seen = observe(SoftmaxLine(witnesses="a", shown=5, span=3.0, points=7), classifier, images_of(x), y)
    for k in range(4):
        found = rows_of(seen, f"probability_{k}")
        assert list(found) == [-3, -2, -1, 0, 1, 2, 3]
        for t, values in found.items():
            assert torch.allclose(values, (z0 + t * (z1 - z0)).softmax(1)[:, k], atol=1e-12)


def test_two_classes_by_hand() -> None:
    """Logits 0 and <w, x> + b: the second probability is a logistic curve, its variation the difference of its ends."""
    w = torch.zeros(32, dtype=F64)
    w[3] = 4.0
    x, y = torch.full((1, *SHAPE), 0.5, dtype=F64), torch.full((1, *SHAPE), 0.75, dtype=F64)
    seen = observe(SoftmaxLine(witnesses="a", span=2.0, points=9), linear_net(w, -2.0), images_of(x), y)
    t = torch.linspace(-2, 2, 9, dtype=F64)
    found = torch.cat(list(rows_of(seen, "probability_1").values()))
    assert torch.allclose(found, torch.sigmoid(t))
    expected = float(torch.sigmoid(t[-1]) - torch.sigmoid(t[0]))
    assert rows_of(seen, "variation")[2.0].tolist() == pytest.approx([expected])
    assert {(s.quantity, s.at): s.value for s in seen.statistics} == pytest.approx(
        {("lines", 0): 1.0, ("variation", 2.0): expected}
    )


class Turning(nn.Module):
    """Class 1 where the mean brightness lies between a third and two thirds, surely."""

    def forward(self, pixels: Tensor) -> Tensor:
        inside = (pixels.flatten(1).mean(1) - 0.5).abs() < 1 / 6
        return 1000.0 * torch.stack([~inside, inside], 1).to(pixels)


def test_variation_counts_changes_of_the_class() -> None:
    classifier = make_classifier("turning", Turning(), SHAPE).to("cpu", F64)
    x, y = torch.full((1, *SHAPE), 0.5, dtype=F64), torch.full((1, *SHAPE), 0.7, dtype=F64)
    seen = observe(SoftmaxLine(witnesses="a"), classifier, images_of(x), y)
    assert rows_of(seen, "variation")[5.0].tolist() == pytest.approx([2.0])


def test_the_first_images_with_a_witness_are_shown_and_all_of_them_are_measured() -> None:
    x, witnesses = random_pixels(6), random_pixels(6).flip(0)
    witnesses[0], witnesses[2, 1, 3, 3] = torch.nan, torch.nan
    classifier = small_net().metered(6)
    seen = observe(SoftmaxLine(witnesses="a", shown=3, points=11), classifier, images_of(x), witnesses)
    has = torch.tensor([False, True, False, True, True, True])
    shown = torch.tensor([False, True, False, True, True, False])
    for m in seen.measurements:
        assert torch.equal(m.values.isfinite(), has if m.quantity == "variation" else shown)
    statistics = {(s.quantity, s.at): s.value for s in seen.statistics}
    assert statistics["lines", 0] == 4
    assert statistics["variation", 5] == pytest.approx(float(rows_of(seen, "variation")[5.0][has].mean()))
    assert classifier.meter.forwards.tolist() == pytest.approx([0, 11, 0, 11, 11, 11])
    assert classifier.meter.backwards.sum() == 0
    total = torch.stack([rows_of(seen, f"probability_{k}")[0.0] for k in range(3)]).sum(0)
    assert torch.allclose(total[shown], torch.ones(3, dtype=F64))
    assert torch.allclose(rows_of(seen, "probability_1")[1.0][3], small_net().predict(witnesses[3:4]).softmax(1)[0, 1])


@pytest.mark.parametrize("budget", [0.005, 0.01])
def test_without_witnesses_the_perturbation_is_pgds_at_a_budget_fooled_or_not(budget: float) -> None:
    """Of two affine classes the gradient has one direction: after all steps PGD is in its corner of the ball, and the
    logits' difference along the line is straight, budget times |w|_1 steep."""
    w = torch.linspace(1.0, 4.0, 32, dtype=F64) * (-1) ** torch.arange(32)
    x = 0.4 + 0.2 * random_pixels(12)
    middle = float((x.flatten(1) @ w).mean())
    classifier, images = linear_net(w, -middle), images_of(x)
    metric = SoftmaxLine(budget=budget, span=2.0, points=21, shown=12)
    seen = observe(metric, classifier, images)
    margin = x.flatten(1) @ w - middle
    # From the predicted class, whatever the label, which is 0 for all.
    assert 0 < int((margin > 0).sum()) < 12
    slope = -torch.where(margin > 0, 1.0, -1.0) * budget * w.abs().sum()
    for t, found in rows_of(seen, "probability_1").items():
        assert torch.allclose(found, torch.sigmoid(margin + t * slope), atol=1e-6)
    fooled = (margin > 0) != (margin + slope > 0)
    expected = (torch.sigmoid(margin + 2 * slope) - torch.sigmoid(margin - 2 * slope)).abs()
    assert torch.allclose(rows_of(seen, "variation")[2.0], expected, atol=1e-6)
    assert 0 < int(fooled.sum()) < 12
    assert {(s.quantity, s.at): s.value for s in seen.statistics}["lines", 0] == 12


def test_a_smoother_network_varies_less_at_the_same_budget() -> None:
    """Closest witnesses cannot tell them apart: there the class changes at t = 1 in both."""
    w, x = torch.ones(32, dtype=F64), 0.45 + 0.1 * random_pixels(8)
    middle = float(x.flatten(1).sum(1).mean())
    varied = []
    for steepness in (1.0, 8.0):
        net = linear_net(steepness * w, -steepness * middle)
        seen = observe(SoftmaxLine(budget=0.01), net, images_of(x))
        varied.append(next(s.value for s in seen.statistics if s.quantity == "variation"))
    assert varied[0] < 0.9 * varied[1]


def test_of_many_classes_those_with_the_largest_maxima_are_kept() -> None:
    classifier, x, y = affine(30), random_pixels(4), random_pixels(4).flip(0)
    everything = observe(SoftmaxLine(witnesses="a", classes=30), classifier, images_of(x), y)
    peaks = torch.stack([torch.stack([*rows_of(everything, f"probability_{k}").values()]).amax(0) for k in range(30)])
    few = observe(SoftmaxLine(witnesses="a", classes=3), classifier, images_of(x), y)
    for k in range(30):
        expected = (peaks >= peaks.topk(3, dim=0).values[-1])[k]
        found = rows_of(few, f"probability_{k}")
        assert bool(found) == bool(expected.any())
        for at, values in found.items():
            assert torch.equal(values.isfinite(), expected)
            whole = rows_of(everything, f"probability_{k}")[at]
            assert torch.equal(values[expected], whole[expected])


def test_no_witness_at_all_is_unsupported() -> None:
    pixels = random_pixels(3)
    with pytest.raises(UnsupportedError, match=r"witnesses of 'a'.*got none"):
        observe(SoftmaxLine(witnesses="a"), small_net(), images_of(pixels), torch.full_like(pixels, torch.nan))


@pytest.mark.parametrize("setting", [{"points": 1}, {"span": 0}, {"shown": 0}, {"classes": 0}, {"budget": 0}])
def test_settings_that_make_no_sense_are_refused(setting: dict[str, object]) -> None:
    with pytest.raises(ValueError):
        SoftmaxLine.model_validate({"witnesses": "a"} | setting)
