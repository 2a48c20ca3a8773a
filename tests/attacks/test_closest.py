"""Closest: how many queries it takes, and what it finds where the gradient at the image shows nothing."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from attacking import streams
from oracles import affine, affine_distances, random_images
from robusteval import open_checkpoint, read_images
from robusteval.attacks.closest import FINE, REFINE, Closest, Plan, Start
from robusteval.attacks.judge import judge
from robusteval.attacks.search.boundary import Strides
from robusteval.attacks.search.moves import BEYOND
from robusteval.attacks.search.walks import WalkSearch
from robusteval.core.images import Images
from robusteval.core.norms import Norm
from robusteval.models.classifier import Classifier
from robusteval.models.making import make_classifier


class Bright(nn.Module):
    """Class 1 where the sum of 16 pixels exceeds 5, times `scale`; below a sum of 4 it has no gradient."""

    scale: Tensor

    def __init__(self, scale: float = 1.0) -> None:
        super().__init__()
        self.register_buffer("scale", torch.tensor(scale))

    def forward(self, x: Tensor) -> Tensor:
        seen = (x.flatten(1).sum(1) - 4).relu()
        return torch.stack([torch.ones_like(seen), seen], dim=1) * self.scale


def dark(n: int = 4) -> Images:
    pixels = 0.1 * torch.rand(n, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    return Images(tuple(map(str, range(n))), pixels, torch.zeros(n).long())


def found(attack: Closest, classifier: Classifier, images: Images) -> Tensor:
    candidates = attack.run(classifier.metered(len(images)), images, None, streams(images)).examples
    distances: Tensor = getattr(judge(classifier, images, candidates, attack.norm, None), attack.norm.value)
    return distances


@pytest.mark.parametrize("norm", list(Norm))
@pytest.mark.parametrize("queries", [40, 100, 137, 1000, 3000])
@pytest.mark.parametrize("classes", [2, 5, 40])
def test_it_takes_the_queries_that_it_declares_and_no_more(norm: Norm, queries: int, classes: int) -> None:
    classifier, _, _ = affine(0, (1, 3, 3), classes)
    images = random_images(0, 3, classifier)
    view, attack = classifier.metered(3), Closest(norm=norm, queries=queries)
    attack.run(view, images, None, streams(images))
    declared = attack.passes(3, classes)
    assert float(view.meter.backwards.sum()) <= declared.backward
    assert float(view.meter.forwards.sum()) <= declared.forward
    if queries <= 1000:  # After more, images may have lost patience.
        assert float(view.meter.backwards.sum()) == declared.backward
        assert declared.forward - float(view.meter.forwards.sum()) <= 3 * REFINE, "but for an image without an example"
    assert (view.meter.forwards + view.meter.backwards <= queries).all()
    assert (view.meter.forwards + view.meter.backwards >= 0.7 * queries - 20).all()


@pytest.mark.parametrize("norm", list(Norm))
def test_more_queries_come_closer_to_the_exact_distance(norm: Norm) -> None:
    classifier, weight, bias = affine(3)
    images = random_images(3, 12, classifier)
    exact = torch.from_numpy(affine_distances(weight, bias, images, norm))
    few, many = (found(Closest(norm=norm, queries=q), classifier, images) for q in (100, 1000))
    assert (few.minimum(many) >= exact * (1 - 1e-5)).all()
    assert (many / exact).mean() <= (few / exact).mean() + 2 * BEYOND, "both aim that far beyond the boundary"
    assert (many <= exact * 1.005).all()


@pytest.mark.parametrize(("norm", "exact"), [(Norm.L1, 5.0), (Norm.L2, 5 / 4), (Norm.LINF, 5 / 16)])
def test_an_image_without_a_gradient_is_left_from_afar(norm: Norm, exact: float) -> None:
    images = dark()
    classifier = make_classifier("bright", Bright(), (1, 4, 4))
    missing = exact - images.pixels.flatten(1).sum(1) * exact / 5
    assert (found(Closest(norm=norm, queries=400), classifier, images) <= missing * 1.01).all()


@pytest.mark.parametrize("norm", list(Norm))
@pytest.mark.parametrize("scale", [2.0**-10, 2.0**10])
def test_the_scale_of_logits_changes_nothing(norm: Norm, scale: float) -> None:
    images, attack = dark(), Closest(norm=norm, queries=300)
    plain, scaled = (make_classifier("bright", Bright(s), (1, 4, 4)) for s in (1.0, scale))
    assert torch.equal(found(attack, plain, images), found(attack, scaled, images))


def test_it_tells_what_each_walk_began_with() -> None:
    classifier, _, _ = affine(1)
    images = random_images(1, 8, classifier)
    stage = (
        Closest(norm=Norm.L2, queries=400)
        .run(classifier.metered(8), images, None, streams(images))
        .measurements["stage"]
    )
    assert set(stage.tolist()) <= {float(start.code) for start in Start}
    linear = nn.Linear(16, 3)
    with torch.no_grad():
        linear.weight.zero_()
        linear.bias.copy_(torch.tensor([1.0, 0.0, 0.0]))
    none = make_classifier("none", nn.Sequential(nn.Flatten(), linear), (1, 4, 4))
    out = Closest(norm=Norm.L2, queries=100).run(none.metered(4), dark(), None, streams(dark()))
    assert all(map(math.isnan, out.measurements["stage"].tolist()))
    assert torch.equal(out.examples, dark().pixels)


@pytest.mark.parametrize("gradients", [1, 20, 45, 70, 71, 495, 5000])
@pytest.mark.parametrize("targets", [1, 9])
def test_a_plan_keeps_within_its_gradients(gradients: int, targets: int) -> None:
    plan = Plan.of(gradients, targets, 16, 25)
    assert gradients * 0.9 - 20 <= plan.gradients <= gradients
    assert len(set(plan.starts)) == len(plan.starts)


def test_some_of_the_closest_are_found_from_where_fmn_ends_and_no_fine_walk_comes_closer(demo_folder: Path) -> None:
    images = read_images("digits", 24)
    file = demo_folder / "digits-standard.safetensors"
    classifier = open_checkpoint(str(file), "digits-cnn", input_shape=images.shape).metered(len(images))
    attack = Closest(norm=Norm.L1, queries=1000)
    ended = attack.run(classifier, images, None, streams(images))
    assert Start.SLOW.code in ended.measurements["stage"].tolist()
    before = Norm.L1.size(ended.examples - images.pixels)
    search = WalkSearch(classifier, images, Norm.L1)
    walks = search.begin(images.labels[:, None], torch.zeros(1)).moved(ended.examples, 0.0)
    after = search.walked(walks, Strides(60, *FINE)).distance.minimum(before)
    right = before > 0
    # With strides that are not fine it is six times as far.
    assert float((before / after)[right].mean()) < 1 + 1e-5
