"""Attacks that linearise several boundaries on networks of many classes: what a step costs, and what it holds."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from oracles import affine, affine_distances, random_images
from robusteval.attacks.adef import ADef
from robusteval.attacks.base import Attack, MinimumDistanceAttack
from robusteval.attacks.deepfool import DeepFool
from robusteval.attacks.fab import FAB
from robusteval.core import memory
from robusteval.core.norms import BALLS, Norm
from robusteval.models.classifier import Classifier
from robusteval.numerics import jacobian as whole
from shortest import run, sizes

SHORTLISTED: list[MinimumDistanceAttack] = [
    FAB(norm=Norm.LINF, iterations=5),
    DeepFool(norm=Norm.L2, steps=5),
    ADef(norm=Norm.LINF, steps=5),
]


class Counting(TorchDispatchMode):
    """Counts the operators that are run, and the numbers that they return."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.operators = self.largest = 0

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = func(*args, **(kwargs or {}))
        self.operators += 1
        if isinstance(found, Tensor):
            self.largest = max(self.largest, found.numel())
        return found


@contextmanager
def counting() -> Iterator[Counting]:
    with Counting() as count:
        yield count


def operators(classes: int) -> int:
    classifier, _, _ = affine(0, classes=classes)
    x = random_images(0, 2, classifier).pixels
    with counting() as count:
        classifier.jacobian(x)
    return count.operators


def test_a_class_costs_the_same_however_many_there_are() -> None:
    few, more, most = (operators(k) for k in (20, 40, 80))
    assert most - more == 2 * (more - few), "so many operators a class, no more with more classes"


@pytest.mark.parametrize("k", [2, 5, 30])
def test_the_jacobian_of_some_classes_is_a_part_of_the_whole(k: int) -> None:
    classifier, weight, _ = affine(1, classes=30)
    x = random_images(1, 4, classifier).pixels
    logits, everything = classifier.jacobian(x)
    torch.testing.assert_close(everything.flatten(2), torch.tensor(weight).float().expand(4, -1, -1))
    classes = logits.topk(k).indices
    for given in (classes, lambda z: z.topk(k).indices):
        again, some = classifier.jacobian(x, given)
        assert torch.equal(again, logits)
        assert torch.equal(some, everything[torch.arange(4)[:, None], classes])


@pytest.mark.parametrize("attack", SHORTLISTED, ids=lambda a: a.name)
def test_a_step_costs_no_more_with_more_classes(attack: Attack) -> None:
    spent = []
    for classes in (10, 40, 160):
        classifier, _, _ = affine(2, classes=classes)
        images = random_images(2, 4, classifier)
        view = classifier.metered(4)
        run(attack, view, images)
        spent.append(float((view.meter.backwards / (view.meter.forwards - 1)).max()))
    assert max(spent) <= 10


@pytest.mark.parametrize("norm", BALLS)
def test_untargeted_fab_finds_the_distance_among_many_classes(norm: Norm) -> None:
    classifier, weight, bias = affine(3, classes=60)
    images = random_images(3, 12, classifier)
    exact = affine_distances(weight, bias, images, norm)
    found = sizes(classifier, images, run(FAB(norm=norm, iterations=30), classifier, images), norm)
    assert (found >= exact * (1 - 1e-5)).all()
    assert np.median(found / exact) <= 1.01


@pytest.mark.parametrize("norm", BALLS)
def test_ten_classes_are_all_linearised(norm: Norm) -> None:
    classifier, _, _ = affine(4, classes=10)
    images = random_images(4, 6, classifier)
    nine, every = (run(FAB(norm=norm, iterations=8, classes=k), classifier, images) for k in (9, 10**6))
    assert torch.equal(nine, every)


@pytest.mark.parametrize("attack", SHORTLISTED, ids=lambda a: a.name)
@pytest.mark.parametrize("at_a_time", [1, 3])
def test_no_more_gradients_are_held_than_memory_allows(
    attack: MinimumDistanceAttack, at_a_time: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    classifier, _, _ = affine(5, classes=40)
    images = random_images(5, 7, classifier)
    expected = run(attack, classifier, images)
    each = attack.gradients(40) * images.pixels[0].numel()
    held: list[int] = []
    plain = Classifier.jacobian

    def watched(self: Classifier, *args: Any) -> tuple[Tensor, Tensor]:
        found = plain(self, *args)
        held.append(found[1].numel())
        return found

    monkeypatch.setattr(Classifier, "jacobian", watched)
    with memory.at_most(at_a_time * each + each // 2):
        found = run(attack, classifier, images)
    assert max(held) == at_a_time * each
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-4)


def test_one_large_image_with_a_thousand_classes_fits() -> None:
    entries = 3 * 224 * 224
    assert FAB(norm=Norm.L2).gradients(1000) * entries <= whole.ENTRIES
    assert 1000 * entries > whole.ENTRIES, "the whole Jacobian does not"


def test_the_whole_jacobian_makes_no_square_of_the_classes() -> None:
    classifier, _, _ = affine(6, classes=500)
    x = random_images(6, 2, classifier).pixels
    with counting() as count:
        whole.jacobian(classifier, x)
    assert count.largest <= 500 * x.numel() < 500 * 500
