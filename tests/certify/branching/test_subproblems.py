"""Bounds of sub-problems hold for the images that are in their phases, whatever slopes and multipliers are taken."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from propagating import F64, NETWORKS, SHAPE, candidates, evaluated, images_for, small, steps_within
from robusteval.certify.branching.bounding import Problem, Relaxation, bounded, roots
from robusteval.certify.branching.evaluating import inputs_at
from robusteval.certify.branching.phases import Rectifiers
from robusteval.certify.branching.tree import Leaf, Tree
from robusteval.certify.branching.unrolling import unrolled
from robusteval.certify.propagation.ball import InputBall
from robusteval.certify.propagation.interval_bounds import propagated
from robusteval.certify.propagation.ops import Max
from robusteval.certify.propagation.trace import trace
from robusteval.core.norms import BALLS, Norm


@pytest.mark.parametrize("name", NETWORKS)
def test_maxima_as_rectifiers_are_the_same_maxima(name: str) -> None:
    graph = trace(small(name, F64))
    split = unrolled(graph)
    x = candidates(20, SHAPE)
    torch.testing.assert_close(evaluated(split, x)[-1], evaluated(graph, x)[-1], rtol=1e-12, atol=1e-12)
    left = [node.op for node in split.nodes if isinstance(node.op, Max) and not node.op.single]
    # A window whose padding the network ignores stays, unless a ReLU is taken with it.
    assert all(not op.floor and op.view.padding != (0, 0) for op in left)


@pytest.mark.parametrize("norm", BALLS)
@pytest.mark.parametrize("name", NETWORKS)
def test_bounds_hold_in_their_phases(name: str, norm: Norm) -> None:
    classifier = small(name, F64)
    images = images_for(classifier, 3)
    radius = torch.full((3,), {Norm.L1: 2.0, Norm.L2: 0.3, Norm.LINF: 0.05}[norm], dtype=F64)
    graph = unrolled(trace(classifier))
    ball = InputBall(norm, images.pixels.double(), radius)
    problem = Problem(graph, Rectifiers.of(graph), ball, images.labels, propagated(graph, ball))
    moved = steps_within(norm, radius, images, 30)
    generator = torch.Generator().manual_seed(5)
    start = roots(problem, torch.arange(3))
    tried = 0
    for near in moved:
        # The phases of some ReLUs at this image, so that it is in its sub-problems.
        taken = inputs_at(problem, near[start.of])
        signs = torch.cat([taken[k].flatten(1).sign() for k in problem.rectifiers.places], 1)
        some = torch.rand(signs.shape, generator=generator) < 0.3
        chosen = replace(
            start,
            signs=torch.where(some, signs, 0.0).to(torch.int8),
            slopes=torch.rand(signs.shape, generator=generator, dtype=start.slopes.dtype),
            multipliers=0.1 * torch.rand(signs.shape, generator=generator, dtype=start.slopes.dtype),
        )
        logits = classifier.predict(near)[start.of]
        margins = (logits.gather(1, problem.labels[start.of, None]) - logits.gather(1, start.rival[:, None]))[:, 0]
        assert (Relaxation(problem, chosen).least(chosen.slopes, chosen.multipliers)[0] <= margins).all()
        assert (bounded(problem, chosen, 3).margins <= margins).all()
        tried += int(some.sum())
    assert tried > 0


def test_a_sub_problem_without_images_is_proven() -> None:
    classifier = small("dense", F64)
    images = images_for(classifier, 1)
    graph = unrolled(trace(classifier))
    ball = InputBall(Norm.LINF, images.pixels.double(), torch.full((1,), 1e-6, dtype=F64))
    problem = Problem(graph, Rectifiers.of(graph), ball, images.labels, propagated(graph, ball))
    start = roots(problem, torch.tensor([0]))
    first = problem.rectifiers.places[0]
    against = torch.where(problem.intervals(first).lower > 0, -1, 1).flatten(1)
    signs = torch.zeros_like(start.signs)
    signs[:, : against.shape[1]] = against
    assert bounded(problem, replace(start, signs=signs.to(torch.int8)), 0).margins.isinf().all()


def test_what_is_proven_in_a_ball_is_open_in_a_larger_one() -> None:
    none = torch.zeros(0)
    small_ball, large_ball = (Leaf(1, none, none, none, 0.5, radius) for radius in (0.1, 0.2))
    tree = Tree()
    tree.closed = [small_ball, large_ball]
    assert tree.reopened(0.1) == []
    assert tree.proven
    assert tree.reopened(0.15) == [small_ball]
    assert tree.closed == [large_ball]
