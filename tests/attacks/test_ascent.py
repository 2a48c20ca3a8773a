"""Losses, targets, presets and steps of gradient ascent."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional

from attacking import run, streams
from oracles import affine, random_images
from robusteval.attacks.pgd import PGD
from robusteval.attacks.search.active import keep
from robusteval.attacks.search.ball import Ball
from robusteval.attacks.search.losses import Goal, Loss, dlr, margin
from robusteval.attacks.search.targets import Target, choose, likeliest
from robusteval.attacks.transfer import Transfer
from robusteval.core.errors import UnsupportedError
from robusteval.core.norms import BALLS, Norm

LOGITS = torch.tensor([[3.0, 1.0, 0.5, -1.0], [0.0, 2.0, 5.0, 1.0]], dtype=torch.float64)
LABELS = torch.tensor([0, 1])


def test_losses_by_hand() -> None:
    targets = torch.tensor([2, 3])
    assert margin(LOGITS, LABELS).tolist() == [-2.0, 3.0]
    assert margin(LOGITS, LABELS, targets).tolist() == [-2.5, -1.0]
    assert dlr(LOGITS, LABELS).tolist() == [-2.0 / 2.5, 3.0 / 4.0]
    assert dlr(LOGITS, LABELS, targets).tolist() == [-2.5 / (3 - (0.5 - 1) / 2), -1.0 / (5 - (1 + 0) / 2)]
    assert (
        Goal(Loss.CROSS_ENTROPY, LABELS)(LOGITS).tolist()
        == functional.cross_entropy(LOGITS, LABELS, reduction="none").tolist()
    )
    clean = torch.zeros_like(LOGITS)
    for loss, p in ((Loss.LOGITS_L1, 1), (Loss.LOGITS_L2, 2), (Loss.LOGITS_LINF, math.inf)):
        expected = np.linalg.norm(LOGITS.numpy(), ord=p, axis=1)
        np.testing.assert_allclose(Goal(loss, LABELS, clean=clean)(LOGITS).numpy(), expected)


@pytest.mark.parametrize("classes", [2, 3])
def test_with_few_classes_the_margin_takes_the_place_of_dlr(classes: int) -> None:
    logits = LOGITS[:, :classes]
    assert torch.equal(dlr(logits, LABELS, 1 - LABELS), margin(logits, LABELS, 1 - LABELS))
    if classes == 2:
        assert torch.equal(dlr(logits, LABELS), margin(logits, LABELS))


@given(st.floats(0.01, 100), st.floats(-50, 50))
def test_dlr_heeds_neither_scale_nor_shift_of_the_logits(scale: float, shift: float) -> None:
    for targets in (None, torch.tensor([2, 3])):
        changed = dlr(LOGITS * scale + shift, LABELS, targets)
        torch.testing.assert_close(changed, dlr(LOGITS, LABELS, targets), rtol=1e-8, atol=1e-8)


def test_targets() -> None:
    classifier, _, _ = affine(0)
    images = random_images(0, 200, classifier)
    logits, labels = classifier.predict(images.pixels), images.labels
    ranked = logits.argsort(dim=1, descending=True)
    assert torch.equal(choose(Target.SECOND_BEST, labels, 5, logits, streams(images)), ranked[:, 1])
    assert torch.equal(choose(Target.LEAST_LIKELY, labels, 5, logits, streams(images)), ranked[:, -1])
    assert torch.equal(likeliest(logits, labels, 9), ranked[:, 1:])
    given_class = choose(3, labels, 5, None, streams(images))
    assert (given_class[labels != 3] == 3).all()
    assert (given_class[labels == 3] == 4).all()
    drawn = choose(Target.RANDOM, labels, 5, None, streams(images))
    assert (drawn != labels).all()
    # Uniform over four classes: each count is Binomial(200, 1/4), whose standard deviation is 6.1; five of them.
    offsets = torch.bincount((drawn - labels) % 5, minlength=5)
    assert offsets[0] == 0
    assert (offsets[1:] - 50).abs().max() < 5 * math.sqrt(200 * 3 / 16)
    with pytest.raises(UnsupportedError, match="below 5"):
        choose(5, labels, 5, None, streams(images))


@pytest.mark.parametrize("target", ["second-best", "least-likely", 2])
def test_a_targeted_attack_arrives_at_its_target(target: str | int) -> None:
    classifier, _, _ = affine(1)
    images = random_images(1, 8, classifier)
    attack = PGD(norm=Norm.LINF, target=target, steps=60, step=0.05)
    goal = attack.goal(classifier.metered(8), images, streams(images))
    assert goal.targets is not None
    found = run(attack, classifier, images, 0.9)
    predicted = classifier.predict(found).argmax(1)
    # The first wrong class on the way is returned, which mostly is the target of a linear model.
    assert (predicted != images.labels).all()
    assert (predicted == goal.targets).float().mean() >= 0.25


def test_presets_are_the_papers_and_give_way_to_what_is_said() -> None:
    sgr = PGD(norm=Norm.LINF, preset="sgr")
    assert (sgr.steps, sgr.step, sgr.labels) == (10, 0.2, "predicted")
    assert Transfer(norm=Norm.LINF, preset="sgr-transfer").steps == 40
    assert PGD(norm=Norm.LINF, preset="gradreg").steps == 7
    foolbox = PGD(norm=Norm.LINF, preset="smoothkernels")
    assert (foolbox.steps, foolbox.step, foolbox.random_start) == (40, 1 / 30, False)
    assert PGD(norm=Norm.LINF, preset="sgr", steps=3).steps == 3
    with pytest.raises(ValueError, match="did you mean 'sgr'"):
        PGD(norm=Norm.LINF, preset="sgrr")


def test_predicted_labels_differ_where_the_model_errs() -> None:
    classifier, _, _ = affine(0)
    images = random_images(0, 4, classifier)
    wrong = type(images)(images.ids, images.pixels, (images.labels + 1) % 5)
    attack = PGD(norm=Norm.L2, labels="predicted")
    assert torch.equal(attack.goal(classifier.metered(4), wrong, streams(images)).labels, images.labels)


@pytest.mark.parametrize(("loss", "q"), [("logits-l1", 1), ("logits-l2", 2), ("logits-linf", math.inf)])
def test_the_l2_ascent_of_logit_distances_reaches_the_operator_norm(loss: str, q: float) -> None:
    """OpNorm, theorem 1: on a linear model it is the power method for the (2, q) operator norm of the weights."""
    classifier, weight, _ = affine(3, classes=3)
    images = random_images(3, 12, classifier)
    images = replace(images, content=0.45 + 0.1 * images.pixels)
    budget = 0.05
    attack = PGD(norm=Norm.L2, loss=loss)
    radii = torch.full((12,), budget)
    ball, x, goal = attack.begin(classifier.metered(12), images, radii, streams(images))
    for _ in range(60):
        x = attack.ascend(ball, x, classifier.gradient(x, goal)[0])
    reached = goal(classifier.predict(x)).numpy()
    # The unit ball of the dual of l_q has finitely many corners for q = 1 and infinity.
    corners = {1: list(itertools.product([-1.0, 1.0], repeat=3)), math.inf: np.eye(3)}.get(q)
    exact = (
        np.linalg.norm(weight, 2) if corners is None else np.linalg.norm(weight.T @ np.array(corners).T, axis=0).max()
    )
    assert (reached <= budget * exact * (1 + 1e-4)).all()
    assert reached.max() >= budget * exact * 0.97


@pytest.mark.parametrize("loss", ["logits-l1", "logits-l2", "logits-linf"])
@pytest.mark.parametrize("norm", BALLS)
def test_logit_distances_grow_along_the_ascent(loss: str, norm: Norm) -> None:
    classifier, _, _ = affine(3, classes=3)
    images = random_images(3, 12, classifier)
    attack = PGD(norm=norm, loss=loss)
    ball, x, goal = attack.begin(classifier.metered(12), images, torch.full((12,), 0.05), streams(images))
    start = goal(classifier.predict(x))
    for _ in range(30):
        x = attack.ascend(ball, x, classifier.gradient(x, goal)[0])
    assert (goal(classifier.predict(x)) > start).all()


def test_logit_distances_need_a_random_start_and_no_target() -> None:
    with pytest.raises(ValueError, match="random start"):
        PGD(norm=Norm.L2, loss="logits-l2", random_start=False)
    with pytest.raises(ValueError, match="no target"):
        PGD(norm=Norm.L2, loss="logits-l2", target="random")


@given(st.integers(0, 1000), st.floats(0.05, 3.0), st.sampled_from([2.0, 7.0, 1e9]))
def test_a_long_l1_step_ends_at_the_maximiser_of_the_ball_wherever_it_begins(
    seed: int, radius: float, length: float
) -> None:
    """Eq. 17's limit, within the box: no point of the ball and the box gains more along the gradient."""
    generator = torch.Generator().manual_seed(seed)
    x, drawn, gradient = torch.rand(3, 3, 1, 2, 4, generator=generator, dtype=torch.float64) - torch.tensor(
        [0.0, 0.0, 0.5], dtype=torch.float64
    ).view(3, 1, 1, 1, 1)
    ball = Ball.around(x, Norm.L1, torch.full((3,), radius, dtype=torch.float64))
    moved = ball.climb(ball.nearest(drawn), gradient, length)
    torch.testing.assert_close(moved, ball.climb(x, gradient, 1.0))


@given(st.integers(0, 1000), st.floats(0.05, 3.0))
def test_an_l1_step_fills_the_box_in_the_order_of_the_gradient(seed: int, radius: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    x = torch.rand(3, 1, 2, 4, generator=generator, dtype=torch.float64)
    gradient = torch.randn(x.shape, generator=generator, dtype=torch.float64)
    ball = Ball.around(x, Norm.L1, torch.full((3,), radius, dtype=torch.float64))
    moved = ball.climb(x, gradient, 1.0)
    gains = ((moved - x) * gradient).flatten(1).sum(1)
    room = torch.where(gradient > 0, 1 - x, x).flatten(1)
    for i in range(3):
        left, best = radius, 0.0
        for j in gradient[i].flatten().abs().argsort(descending=True).tolist():
            taken = min(left, float(room[i, j]))
            best, left = best + taken * float(gradient[i].flatten()[j].abs()), left - taken
        assert float(gains[i]) == pytest.approx(best, rel=1e-9)


def test_keep_restricts_everything_alike() -> None:
    classifier, _, _ = affine(0)
    images = random_images(0, 5, classifier)
    view = classifier.metered(5)
    mask = torch.tensor([True, False, True, False, False])
    model, chosen, own, pixels, nothing = keep(mask, view, images, streams(images), images.pixels, None)
    assert chosen.ids == ("i000", "i002")
    assert torch.equal(pixels, images.pixels[mask])
    assert model.rows.tolist() == [0, 2]
    assert len(own) == 2
    assert nothing is None


def test_jacobian_of_all_and_of_some_classes() -> None:
    classifier, weight, _ = affine(4)
    images = random_images(4, 3, classifier)
    view = classifier.metered(3)
    logits, jacobian = view.jacobian(images.pixels)
    assert torch.equal(logits, classifier.predict(images.pixels))
    expected = torch.from_numpy(weight).float().view(1, 5, 1, 8, 8).expand(3, -1, -1, -1, -1)
    torch.testing.assert_close(jacobian, expected)
    classes = torch.tensor([[1, 0], [4, 2], [3, 3]])
    _, some = view.jacobian(images.pixels, classes)
    torch.testing.assert_close(some, expected.gather(1, classes.view(3, 2, 1, 1, 1).expand(-1, -1, 1, 8, 8)))
    assert view.meter.forwards.tolist() == [2.0] * 3
    assert view.meter.backwards.tolist() == [7.0] * 3


def test_a_reduced_classifier_searches_and_answers_in_the_type_of_the_images() -> None:
    classifier, _, _ = affine(4)
    images = random_images(4, 3, classifier)
    view = classifier.metered(3).reduced(torch.bfloat16)
    gradient, values, logits = view.gradient(images.pixels, Goal(Loss.MARGIN, images.labels))
    assert gradient.dtype == values.dtype == logits.dtype == torch.float32
    exact = classifier.predict(images.pixels)
    assert not torch.equal(logits, exact)
    torch.testing.assert_close(logits, exact, rtol=0.05, atol=0.2)
    assert view.meter.forwards.tolist() == [1.0] * 3
