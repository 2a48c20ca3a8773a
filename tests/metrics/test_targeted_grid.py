"""The targeted grid, against distances to a plane and linear programs."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from scipy.optimize import linprog

from metric_cases import F64, SHAPE, images_of, linear_net, observe, random_pixels, small_net
from oracles import affine_distances
from robusteval.core.norms import BALLS, Norm
from robusteval.metrics.targeted_grid import TargetedGrid
from seeing import centred, oracle, statistics


@pytest.mark.parametrize("norm", BALLS)
def test_two_classes_are_reached_exactly_within_the_distance_of_the_plane(norm: Norm) -> None:
    classifier, weight, bias = oracle(1, classes=2)
    images = centred(classifier, 5, 30, 0.2)
    assert set(images.labels.tolist()) == {0, 1}
    far = affine_distances(weight.numpy(), bias.numpy(), images, norm)
    first = [int((images.labels == k).nonzero()[0]) for k in (0, 1)]
    outcomes = set()
    for k in (0, 1):
        for factor in (0.98, 1.02):
            budget = float(factor * far[first[k]])
            seen = observe(TargetedGrid(norm=norm, budget=budget, steps=40), classifier, images)
            reached = statistics(seen, "reached")
            assert list(reached) == [1, 2], "source * K + target: 0 to 1 and 1 to 0"
            for source, at in ((0, 1), (1, 2)):
                assert reached[at] == (far[first[source]] < budget)
                outcomes.add(reached[at])
    assert outcomes == {0, 1}


@pytest.mark.parametrize("seed", [0, 1])
def test_of_five_classes_those_are_reached_that_a_linear_program_reaches(seed: int) -> None:
    """The largest margin m of the target over all others in the Linf ball and the box, by a linear program. Where m < 0
    no image reaches; where m > log 4 the largest probability is above 1 / (1 + 4 exp(-m)) > 1/2, so its image
    does; between the two the image of the largest probability may miss."""
    classifier, weight, bias = oracle(seed)
    images = centred(classifier, seed, 80, 0.6)
    budget = 0.03
    seen = observe(TargetedGrid(norm=Norm.LINF, budget=budget, steps=80), classifier, images)
    reached = statistics(seen, "reached")
    outcomes = []
    for at, value in reached.items():
        source, target = divmod(int(at), 5)
        x = images.pixels[int((images.labels == source).nonzero()[0])].flatten().numpy()
        others = [k for k in range(5) if k != target]
        w, b = weight.numpy(), bias.numpy()
        rows = np.hstack([w[others] - w[target], np.ones((4, 1))])
        bounds = [*zip(np.maximum(x - budget, 0), np.minimum(x + budget, 1), strict=True), (None, None)]
        margin = -linprog([*np.zeros(len(x)), -1], rows, b[target] - b[others], bounds=bounds).fun
        if margin < 0 or margin > math.log(4):
            assert value == (margin > 0), (source, target, margin)
            outcomes.append(value)
    assert len(outcomes) > len(reached) / 2
    assert set(outcomes) == {0, 1}


@pytest.mark.parametrize("dtype", [torch.float32, F64])
@pytest.mark.parametrize("norm", BALLS)
def test_images_stay_in_ball_and_box_and_bear_out_the_numbers(norm: Norm, dtype: torch.dtype) -> None:
    classifier = small_net(dtype=dtype)
    pixels = random_pixels(40).to(dtype).round(decimals=1)
    images = replace(images_of(pixels), labels=classifier.predict(pixels).argmax(1))
    budget = {Norm.L1: 3.0, Norm.L2: 0.8, Norm.LINF: 0.2}[norm]
    seen = observe(TargetedGrid(norm=norm, budget=budget, steps=20), classifier, images)
    sources = sorted(set(images.labels.tolist()))
    assert seen.arrays.keys() == {f"{s}-{t}" for s in sources for t in range(3)}
    assert statistics(seen, "sources") == {0: len(sources)}
    assert len(statistics(seen, "reached")) == 2 * len(sources)
    for s in sources:
        image = images.pixels[int((images.labels == s).nonzero()[0])]
        assert torch.equal(seen.arrays[f"{s}-{s}"], image), "the first by id"
        for t in set(range(3)) - {s}:
            array = seen.arrays[f"{s}-{t}"]
            distance = float(norm.size((array - image).double()[None]))
            assert 0 <= float(array.min()) <= float(array.max()) <= 1
            assert distance <= budget * (1 + 1e-6)
            probability, before = classifier.predict(torch.stack([array, image])).double().softmax(1)
            assert statistics(seen, "distance")[3 * s + t] == pytest.approx(distance)
            assert statistics(seen, "target_probability")[3 * s + t] == pytest.approx(float(probability[t]), rel=1e-6)
            assert statistics(seen, "reached")[3 * s + t] == float(probability.argmax() == t)
            assert probability[t] >= before[t]


def test_the_image_is_the_first_correct_one_and_a_class_without_is_an_empty_column() -> None:
    classifier = linear_net(torch.ones(32), -16.0)
    dark, bright = 0.2, 0.8
    pixels = torch.tensor([dark, bright, dark, bright], dtype=F64)[:, None, None, None].expand(4, *SHAPE).contiguous()
    images = replace(images_of(pixels + 0.01 * torch.arange(4)[:, None, None, None]), labels=torch.tensor([1, 1, 0, 0]))
    metric = TargetedGrid(norm=Norm.L2, budget=0.5, steps=3)
    seen = observe(metric, classifier, images)
    assert torch.equal(seen.arrays["1-1"], images.pixels[1])
    assert torch.equal(seen.arrays["0-0"], images.pixels[2])
    only = observe(metric, classifier, replace(images, labels=torch.tensor([0, 1, 1, 1])).select(torch.tensor([1, 2])))
    assert only.arrays.keys() == {"1-1", "1-0"}
    assert statistics(only, "sources") == {0: 1}
    assert list(statistics(only, "reached")) == [2]
    wrong = observe(metric, classifier, replace(images, labels=torch.tensor([1, 0, 1, 0])))
    assert not wrong.arrays
    assert [(s.quantity, s.value) for s in wrong.statistics] == [("sources", 0)]


def test_more_classes_than_the_limit_are_left_out() -> None:
    classifier, _, _ = oracle(2)
    images = centred(classifier, 3, 60, 1.0)
    seen = observe(TargetedGrid(norm=Norm.LINF, budget="8/255", steps=3, classes=2), classifier, images)
    assert seen.arrays.keys() == {"0-0", "0-1", "1-1", "1-0"}
    assert set(statistics(seen, "reached")) == {1, 5}
    assert max(statistics(seen, "distance").values()) == pytest.approx(8 / 255)


@pytest.mark.parametrize(
    "settings", [{"budget": 0}, {"budget": "1/0"}, {"budget": "a"}, {"norm": "l0"}, {"classes": 0}, {"budget": None}]
)
def test_settings_of_the_grid_that_make_no_sense_are_refused(settings: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        TargetedGrid.model_validate({"norm": "linf", "budget": 0.1} | settings)
