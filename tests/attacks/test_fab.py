"""FAB against exact distances."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from oracles import affine, affine_distances, random_images, two_layer, two_layer_linf
from robusteval.attacks.fab import FAB
from robusteval.core.norms import BALLS, Norm
from shortest import EACH, run, sizes, streams

FABS = [FAB(norm=norm, targets=targets) for norm in BALLS for targets in (None, 9)]


@pytest.mark.parametrize("attack", FABS, ids=lambda a: f"{a.norm.value}-{a.targets}")
@pytest.mark.parametrize("seed", [0, 1])
def test_fab_finds_the_distance_of_an_affine_classifier(attack: FAB, seed: int) -> None:
    classifier, weight, bias = affine(seed)
    images = random_images(seed, 16, classifier)
    exact = affine_distances(weight, bias, images, attack.norm)
    small = attack.model_copy(update={"iterations": 20})
    found = sizes(classifier, images, run(small, classifier, images), attack.norm)
    assert (found >= exact * (1 - 1e-5)).all()
    assert np.median(found / exact) <= 1.001
    assert (found <= 1.01 * exact).all()


def test_fab_on_a_relu_network_solved_by_enumeration() -> None:
    classifier, parameters = two_layer(3)
    images = random_images(3, 12, classifier)
    flat = images.pixels.double().flatten(1).numpy()
    exact = np.array([two_layer_linf(parameters, x, c) for x, c in zip(flat, images.labels.tolist(), strict=True)])
    for targets, restarts in ((None, 1), (9, 1), (2, 4)):
        attack = FAB(norm=Norm.LINF, iterations=50, targets=targets, restarts=restarts)
        found = sizes(classifier, images, run(attack, classifier, images), Norm.LINF)
        assert (found >= exact * (1 - 1e-5)).all()
        assert np.median(found / exact) <= 1.05


@EACH
def test_random_restarts_are_never_worse(norm: Norm) -> None:
    better = 0
    for seed in range(4):
        classifier, _ = two_layer(seed)
        images = random_images(seed, 12, classifier)
        once, often = (
            sizes(classifier, images, run(FAB(norm=norm, iterations=5, restarts=r, refine=0), classifier, images), norm)
            for r in (1, 4)
        )
        assert (often <= once).all()
        better += (often < once).sum()
    assert better


@EACH
def test_an_image_leaves_fab_as_soon_as_its_budget_is_met(norm: Norm) -> None:
    classifier, weight, bias = affine(4)
    images = random_images(4, 10, classifier)
    exact = torch.tensor(affine_distances(weight, bias, images, norm))
    budget = exact * torch.tensor([1.2, 0.9] * 5)
    attack = FAB(norm=norm, iterations=15, targets=4)
    view = classifier.metered(len(images))
    candidates = attack.search(view, images, budget, streams(images)).examples
    found = sizes(classifier, images, candidates, norm)
    assert (found[::2] <= budget[::2].numpy() * (1 + 1e-6)).all()
    assert (found[1::2] > budget[1::2].numpy()).all(), "nobody finds what does not exist"
    most = 4 * attack.iterations
    assert (view.meter.backwards[1::2] == most).all()
    assert (view.meter.forwards[1::2] == most + 4 + 3 + attack.refine).all()
    assert (view.meter.backwards[::2] < most).all()
    assert view.meter.backwards[::2].median() <= attack.iterations
    assert (view.meter.forwards[::2] <= view.meter.backwards[::2] + 5).all(), "no final search where none is needed"
    without = attack.search(classifier.metered(10), images, None, streams(images)).examples
    assert torch.equal(without, run(attack, classifier, images))


def test_fab_has_one_target_fewer_than_classes() -> None:
    classifier, _, _ = affine(0, classes=3)
    images = random_images(0, 4, classifier)
    view = classifier.metered(4)
    FAB(norm=Norm.L2, iterations=5, targets=9).search(view, images, None, streams(images))
    assert view.meter.backwards.tolist() == [10.0] * 4
