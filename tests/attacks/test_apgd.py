"""APGD: its steps and starts, its geometry in L1 against a solver, its cost."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import brentq

from ensembles import run, streams
from oracles import affine, affine_distances, random_images, two_layer
from robusteval.attacks.apgd import APGD, climb, start
from robusteval.attacks.judge import judge
from robusteval.attacks.search.apgd_l1 import SparsePace, project
from robusteval.attacks.search.ball import Ball
from robusteval.attacks.search.losses import Goal, Loss
from robusteval.attacks.search.pace import Pace
from robusteval.core.norms import BALLS, Norm
from robusteval.core.passes import Passes
from robusteval.core.streams import Streams


def test_apgd_counts_what_it_evaluates() -> None:
    classifier, _, _ = affine(0)
    images = random_images(0, 8, classifier)
    for budget, whole in ((1e-7, True), (0.5, False)):
        for attack, forwards, backwards in (
            (APGD(norm=Norm.LINF, iterations=10, restarts=2), 22, 20),
            (APGD(norm=Norm.LINF, iterations=10, targets=9), 1 + 4 * 11, 40),
            (APGD(norm=Norm.LINF, iterations=10, targets=9, finalists=2), 1 + 4 * 3 + 2 * 11, 4 * 2 + 2 * 10),
            (APGD(norm=Norm.L1, iterations=10, shrinking=True), 13, 10),
            (APGD(norm=Norm.L1, iterations=8, shrinking=True, restarts=2), 26, 20),
            (
                APGD(norm=Norm.L1, iterations=10, shrinking=True, targets=4, finalists=1),
                1 + 4 * 6 + 13,
                4 * 3 + 10,
            ),
        ):
            view = classifier.metered(8)
            attack.run(view, images, torch.full((8,), budget), streams(images))
            if whole:
                assert view.meter.forwards.tolist() == [forwards] * 8
                assert view.meter.backwards.tolist() == [backwards] * 8
                assert attack.passes(8, 5) == Passes(8 * forwards, 8 * backwards)
            elif attack.norm is Norm.LINF:
                assert (view.meter.forwards < 5).all(), "fooled images must leave the batch"


def test_pixels_whose_derivative_is_not_a_number_are_left_alone() -> None:
    """sqrt has an infinite slope at 0, times 0: the other pixels suffice."""

    class Broken(torch.nn.Module):
        def __init__(self, inner: torch.nn.Module) -> None:
            super().__init__()
            self.inner = inner

        def forward(self, pixels: torch.Tensor) -> torch.Tensor:
            logits: torch.Tensor = self.inner(pixels + 0 * pixels.sqrt())
            return logits

    classifier, weight, bias = affine(3)
    images = random_images(3, 6, classifier)
    budget = 3 * float(affine_distances(weight, bias, images, Norm.L2).max())
    inner = classifier.module.network
    assert isinstance(inner, torch.nn.Module)
    classifier.module.network = Broken(inner)
    candidates = run(APGD(norm=Norm.L2, iterations=20), classifier, images, budget).examples
    assert judge(classifier, images, candidates, Norm.L2, budget).success.all()


def test_the_checkpoints_are_the_published_ones() -> None:
    assert sorted(Pace.checkpoints(100)) == [22, 41, 57, 70, 80, 87, 93, 99]
    assert sorted(SparsePace.checkpoints(100))[:3] == [4, 8, 12]
    assert all(APGD(norm=norm, iterations=1).iterations == 1 for norm in BALLS)


def test_steps_are_halved_where_the_ascent_stalls() -> None:
    """Of three images, each over two periods of 4 steps: one rises every time; one rises in 2 of 4 steps; one rises
    every time, but finds nothing better than the best point that it has had."""
    ball = Ball.around(torch.full((3, 1, 2, 2), 0.5), Norm.LINF, 0.1)
    pace, best = Pace.begin(ball), torch.tensor([4.0, 2.0, 5.0])
    for i in range(4):
        pace = pace.seen(torch.tensor([1.0, i % 2, 1.0]), torch.tensor([0.0, 0.5, 0.0]))
    pace, back = pace.checked(ball.centers, best)
    assert back.tolist() == [False, True, False]
    assert pace.step.tolist() == [2.0, 1.0, 2.0]
    for _ in range(4):
        pace = pace.seen(torch.ones(3), torch.zeros(3))
    pace, back = pace.checked(ball.centers, torch.tensor([9.0, 2.0, 5.0]))
    assert back.tolist() == [False, False, True], "the second has just been halved: it is given another period"
    assert pace.step.tolist() == [2.0, 1.0, 1.0]


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10**6), radius=st.floats(1e-3, 30), reach=st.floats(0.01, 5))
def test_the_projection_on_ball_and_box_is_the_nearest_point(seed: int, radius: float, reach: float) -> None:
    """Against the level found by a root finder on sum(clamp(|v| - level, 0, room)) = radius."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.rand(3, 40, generator=generator, dtype=torch.float64)
    x = torch.where(torch.rand(x.shape, generator=generator) < 0.3, x.round(), x)
    v = reach * torch.randn(x.shape, generator=generator, dtype=torch.float64)
    found = project(v, torch.full((3,), radius, dtype=torch.float64), -x, 1 - x).numpy()
    for row, centre, result in zip(v.numpy(), x.numpy(), found, strict=True):
        room = np.where(row > 0, 1 - centre, centre)

        def size(level: float, row: Any = row, room: Any = room) -> Any:
            return np.clip(np.abs(row) - level, 0, room).sum()

        level = 0.0 if size(0) <= radius else brentq(lambda t: size(t) - radius, 0, np.abs(row).max(), xtol=1e-14)
        expected = np.sign(row) * np.clip(np.abs(row) - level, 0, room)
        np.testing.assert_allclose(result, expected, atol=1e-10)


@pytest.mark.parametrize("norm", BALLS)
def test_starts_are_inside_and_reach_the_surface(norm: Norm) -> None:
    ball = Ball.around(torch.full((20, 1, 8, 8), 0.5), norm, 0.3)
    points = start(ball, Streams.for_images(0, "test", [str(i) for i in range(20)], ball.centers))
    size = norm.size(points.double() - 0.5)
    assert (size <= 0.3 * (1 + 1e-6)).all()
    assert (size >= 0.3 * (1 - 1e-3)).all()


def test_a_climb_that_stays_returns_the_highest_point_of_its_way() -> None:
    """With a step so long that it overshoots, the last iterate is not the best."""
    classifier, _ = two_layer(3)
    images = random_images(3, 12, classifier)
    seen: list[torch.Tensor] = []

    class Recorded(Goal):
        def __call__(self, logits: torch.Tensor) -> torch.Tensor:
            seen.append(super().__call__(logits).detach())
            return super().__call__(logits)

    goal = Recorded(Loss.MARGIN, images.labels)
    ball = Ball.around(images.pixels, Norm.LINF, images.pixels.new_full((12,), 0.4))
    found, _, highest = climb(classifier.metered(12), ball, goal, images.pixels, 8, leave=False)
    best = torch.stack(seen).amax(0)
    torch.testing.assert_close(highest, best)
    torch.testing.assert_close(goal(classifier.predict(found)), best)
    assert (torch.stack(seen)[:9][-1] < best).any(), "the last iterate would do as well"
