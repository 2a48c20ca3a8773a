"""Walks along the boundary: how soon they are at it, and where the steps outwards end without a gradient."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from oracles import affine, affine_distances
from robusteval.attacks.search.boundary import Strides, Walkers, walk
from robusteval.attacks.search.moves import LEAST, Here, Rescaled, Solved
from robusteval.attacks.search.walks import WalkSearch
from robusteval.core.images import Images
from robusteval.core.norms import BALLS, Norm
from robusteval.models.making import make_classifier


@pytest.mark.parametrize("norm", [Norm.L2, Norm.LINF])
def test_on_a_linear_boundary_the_second_iterate_is_an_example_hardly_farther_than_it(norm: Norm) -> None:
    """The linearised boundary is the boundary: what is said of its distance in a norm must be of that norm."""
    classifier, weight, bias = affine(5, classes=2)
    pixels = 0.3 + 0.4 * torch.rand(40, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    images = Images(tuple(map(str, range(40))), pixels, classifier.predict(pixels).argmax(1))
    exact = torch.from_numpy(affine_distances(weight, bias, images, norm))
    far = (exact > exact.median()).nonzero()[:, 0]
    images, exact = images.select(far), exact[far]
    walkers = Walkers(images.pixels, images.labels, 1 - images.labels, images.pixels)
    view = classifier.metered(len(far))
    found, distance = walk(view, walkers, norm, Strides(2, 1.0, 0.5, 0.7, 0.3, BALLS))
    assert view.misclassifies(found, images.labels).all()
    assert (distance >= exact * (1 - 1e-5)).all()
    assert (distance <= exact * 1.1).all()


def test_without_a_gradient_steps_outwards_lead_elsewhere() -> None:
    linear = nn.Linear(16, 2)
    with torch.no_grad():
        linear.weight.zero_()
    flat = nn.Sequential(nn.Flatten(), linear)
    images = Images(("a", "b"), torch.full((2, 1, 4, 4), 0.5), torch.zeros(2).long())
    search = WalkSearch(make_classifier("flat", flat, (1, 4, 4)).metered(2), images, Norm.L2)
    walks = search.begin(torch.ones(2, 1).long(), torch.ones(1))
    elsewhere = torch.stack([torch.zeros(1, 4, 4), torch.ones(1, 4, 4)])
    ends = search.outward(walks, 3, 0.1, elsewhere)
    torch.testing.assert_close(ends.flatten(1).mean(1), torch.tensor([0.2, 0.8]))


@pytest.mark.parametrize("norm", [Norm.L1, Norm.L2])
def test_an_iterate_that_fell_back_to_its_center_can_leave_it(norm: Norm) -> None:
    centers = torch.full((1, 1, 2, 2), 0.5)
    move, example = Solved(centers, norm), centers + torch.tensor([[[[0.4, 0.0], [0.0, 0.0]]]])
    gradient, margin, size = torch.ones_like(centers), torch.tensor([-9.0]), torch.tensor([0.4])
    move(Here(example, gradient, margin, size, size), 0.5, 0.0)
    left = move(Here(centers, gradient, margin, torch.zeros(1), size), 0.5, 0.0) - centers
    torch.testing.assert_close(move.measure.size(left), 0.5 * LEAST * size)


def test_a_solved_move_goes_by_the_mean_of_the_gradients() -> None:
    centers, size = torch.full((1, 1, 1, 2), 0.5), torch.zeros(1)
    move, never = Solved(centers, Norm.L2), torch.full((1,), torch.inf)
    for gradient in ([1.0, 0.0], [0.0, 1.0]):
        here = Here(centers, torch.tensor([[[gradient]]]), torch.tensor([-0.01]), size, never)
        change = (move(here, 1.0, 0.0) - centers).flatten()
    torch.testing.assert_close(change[0] / change[1], torch.tensor(Solved.momentum))
    assert 0 < Solved.momentum < 1


@pytest.mark.parametrize("norm", list(Norm))
def test_moves_are_solved_in_all_norms_but_those_named(norm: Norm) -> None:
    centers = torch.full((1, 1, 2, 2), 0.5)
    rescaled = Strides(5, 0.5, 0.1, 0.5, 0.1, (Norm.L0, Norm.LINF)).move(centers, norm)
    assert isinstance(rescaled, Rescaled if norm in (Norm.L0, Norm.LINF) else Solved)
    assert isinstance(Strides(5, 0.5, 0.1, 0.5, 0.1, tuple(Norm)).move(centers, norm), Rescaled)
