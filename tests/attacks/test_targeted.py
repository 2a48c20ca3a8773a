"""A target: only one class counts as success, for every attack, and as the judge sees it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import robusteval as rv
from attack_cases import case_of
from attacking import COMPILED, far_away
from ensembles import SMALL
from oracles import affine, affine_distances_to, random_images
from robusteval.attacks import ATTACKS
from robusteval.attacks.apgd import APGD
from robusteval.attacks.auto import Auto
from robusteval.attacks.base import Attack
from robusteval.attacks.fab import FAB
from robusteval.attacks.fmn import FMN
from robusteval.attacks.square import Square
from robusteval.core.images import Images
from robusteval.core.norms import BALLS, Norm
from robusteval.models.classifier import CheckpointOrigin, Classifier
from robusteval.models.targeted import OneOrOthers

TARGET = 2


def case(seed: int, n: int = 24) -> tuple[Classifier, Any, Any, Images]:
    classifier, weight, bias = affine(seed, classes=5)
    return classifier, weight, bias, random_images(seed, n, classifier)


@pytest.mark.parametrize("target", [0, 2, 4])
def test_the_view_gives_the_target_where_the_network_does(target: int) -> None:
    logits = torch.randn(200, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    both = OneOrOthers(nn.Identity(), target)(logits)
    assert torch.equal(both.argmax(1) == 1, logits.argmax(1) == target)
    assert torch.equal(both[:, 1], logits[:, target])
    assert torch.equal(both.amax(1), logits.amax(1))
    tied = torch.zeros(1, 5)
    assert OneOrOthers(nn.Identity(), target)(tied).argmax(1).item() == 0
    for broken in (torch.nan, torch.inf, -torch.inf):
        logits[0, (target + 1) % 5] = broken
        assert not OneOrOthers(nn.Identity(), target)(logits)[0].isfinite().any()


@pytest.mark.parametrize("norm", [Norm.L1, Norm.LINF])
def test_the_exact_distance_to_one_class_of_an_affine_model(norm: Norm) -> None:
    """Found where it is 0.9 of the budget, not above; no attack comes below it, in whichever way it searches."""
    classifier, weight, bias, images = case(1)
    exact = affine_distances_to(weight, bias, images, norm, TARGET)
    meant = (images.labels != TARGET).numpy()
    assert (~meant).any()
    assert exact[~meant] == pytest.approx(0, abs=1e-9)
    budget = float(np.median(exact[meant]))
    within: list[Attack] = [Auto(norm=norm, **SMALL), APGD(norm=norm, iterations=100, loss="margin"), FAB(norm=norm)]
    for attack in within:
        found = attack(classifier, images.pixels, images.labels, budget, target=TARGET)
        success = found.success.numpy()
        assert not success[~meant].any()
        assert (exact[success] <= budget * (1 + 1e-5)).all(), attack.name
        assert success[meant & (exact <= 0.9 * budget)].all(), attack.name
        assert (classifier.predict(found.examples[found.success]).argmax(1) == TARGET).all()
    closest: list[Attack] = [FMN(norm=norm), FAB(norm=norm), Auto(norm=norm, minimum_distance=True, **SMALL)]
    for attack in closest:
        found = attack(classifier, images.pixels, images.labels, target=TARGET)
        far = found.distances[norm].numpy()
        assert (far[meant] >= exact[meant] * (1 - 1e-5)).all(), attack.name
        assert np.median(far[meant] / exact[meant]) < 1.15, attack.name


def test_what_is_reported_is_of_the_class_alone() -> None:
    """The model's class where it is the target, no success and no distance of images of that class, which cost nothing;
    an image that the model gives another wrong class is attacked, one that it gives the target is its own example."""
    classifier, _, _, images = case(3)
    own = classifier.predict(images.pixels).argmax(1)
    labels = images.labels.clone()
    right, given = (own != TARGET).nonzero()[:, 0], (own == TARGET).nonzero()[:, 0]
    labels[right[0]] = (own[right[0]] + 1) % 5 if (own[right[0]] + 1) % 5 != TARGET else (own[right[0]] + 2) % 5
    labels[given[0]] = (TARGET + 1) % 5
    found = FMN(norm="l2")(classifier, images.pixels, labels, 100.0, target=TARGET)
    meant = labels != TARGET
    assert torch.equal(found.success, meant)
    assert (found.predicted == TARGET).equal(meant | (labels == TARGET))
    assert found.distances["l2"][given[0]] == 0
    assert (found.distances["l2"][right] > 0).all()
    assert found.distances["l2"][~meant].isinf().all()
    assert torch.equal(found.cost.forwards > 0, meant & (own != TARGET))
    nothing = FMN(norm="l2")(classifier, images.pixels, labels, 1e-6, target=TARGET)
    assert torch.equal(nothing.predicted[~nothing.success], labels[~nothing.success])


def test_the_closest_of_all_targets_is_the_closest() -> None:
    classifier, _, _, images = case(4, 8)
    attack = FAB(norm="l2")
    free = attack(classifier, images.pixels, images.labels).distances["l2"]
    each = [attack(classifier, images.pixels, images.labels, target=c).distances["l2"] for c in range(5)]
    torch.testing.assert_close(torch.stack(each).amin(0), free, rtol=0.02, atol=0)


@pytest.mark.parametrize("name", [name for name in ATTACKS if name not in (*COMPILED, "transfer", "autoattack")])
def test_every_attack_takes_a_target(name: str) -> None:
    """And whatever it finds is of that class; pyautoattack, which needs four classes, is refused by its own line."""
    norm = ATTACKS[name].norms[-1]
    settings = case_of(name).settings if case_of(name).fast is None else case_of(name).fast
    attack: Attack = ATTACKS[name](norm=norm, **(settings or {}))
    classifier, _, _, images = case(5, 6)
    budget, starts = 0.5 if attack.fixed_budget else None, far_away(classifier, images) if attack.on_witnesses else None
    found = attack(classifier, images.pixels, images.labels, budget, target=TARGET, starts=starts)
    assert (classifier.predict(found.examples[found.success]).argmax(1) == TARGET).all()
    assert not found.success[images.labels == TARGET].any()


@pytest.mark.parametrize("norm", BALLS)
def test_an_image_alone_gives_the_same(norm: Norm) -> None:
    classifier, _, _, images = case(6, 5)
    attack, x = Auto(norm=norm, iterations=8, queries=20), images.pixels.double()
    budget = torch.linspace(0.1, 0.6, 5) * (1 if norm is Norm.LINF else 4)
    small, large = (attack(classifier, x, images.labels, budget, target=TARGET, batch_size=b) for b in (1, 100))
    torch.testing.assert_close(small.examples, large.examples, rtol=0, atol=1e-9)


def test_two_classes_and_a_thousand() -> None:
    for classes in (2, 1000):
        classifier, _, _ = affine(7, classes=classes)
        images = random_images(7, 8, classifier)
        images = replace(images, labels=(classifier.predict(images.pixels).argmax(1)))
        target = int(images.labels[0])
        found = Square(norm="linf", queries=50)(classifier, images.pixels, images.labels, 1.0, target=target)
        assert not found.success[images.labels == target].any()
        assert (
            FMN(norm="l2")(classifier, images.pixels, images.labels, target=target).success.sum()
            == (images.labels != target).sum()
        )


@pytest.mark.parametrize("target", [-1, 5, True, 1.0])
def test_a_target_is_a_class_of_the_model(target: Any) -> None:
    classifier, _, _, images = case(0, 3)
    with pytest.raises(rv.UserError, match="expected a target from 0 to 4, the classes of affine, got "):
        FMN(norm="l2")(classifier, images.pixels, images.labels, target=target)


def test_a_target_by_its_name_on_the_card() -> None:
    """However its accents are encoded; a network without a card has numbers alone."""
    classifier, _, _, images = case(0, 8)
    with pytest.raises(rv.UserError, match="as the number of a class, since neither affine nor its images name"):
        FMN(norm="l2")(classifier, images.pixels, images.labels, target="cat")
    names = ("dog", "owl", "caf\u00e9", "cat", "cat")
    named = replace(classifier, origin=CheckpointOrigin("here", class_names=names))
    one, two = (FMN(norm="l2")(named, images.pixels, images.labels, target=t) for t in (TARGET, "cafe\u0301"))
    assert torch.equal(one.examples, two.examples)
    for target, said in (("oil", "got 'oil' .*did you mean 'owl'"), ("cat", "got 'cat', which 2 of them are called")):
        with pytest.raises(rv.UserError, match=f"a target among the 5 classes of affine, by name or number, {said}"):
            FMN(norm="l2")(named, images.pixels, images.labels, target=target)
