"""Square: budgets, shapes, costs and the published schedule."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn

from oracles import affine, affine_distances, random_images
from robusteval.attacks.square import HALVINGS, Square, bump
from robusteval.core.images import Images
from robusteval.core.norms import Norm
from robusteval.models.making import make_classifier
from shortest import EACH, run, sizes, streams


@EACH
def test_square_needs_the_distance_and_finds_most_of_what_there_is(norm: Norm) -> None:
    classifier, weight, bias = affine(0)
    images = random_images(0, 16, classifier)
    exact = affine_distances(weight, bias, images, norm)
    for factor, least_found in ((0.98, 0), (2.5, 16)):
        budget = torch.tensor(factor * exact)
        candidates = run(Square(norm=norm, queries=600), classifier, images, budget)
        found = sizes(classifier, images, candidates, norm)
        assert np.isfinite(found).sum() >= least_found
        won = np.isfinite(found)
        assert (found[won] <= budget.numpy()[won] * (1 + 1e-6)).all()
        assert (found >= exact * (1 - 1e-5)).all()
        if factor < 1:
            assert torch.equal(candidates, images.pixels), "the image itself where nothing is found"


@EACH
@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 2, 2), (2, 1, 5), (1, 3, 3), (3, 4, 6), (5, 6, 4), (1, 8, 8)])
def test_square_fits_images_of_any_shape(norm: Norm, shape: tuple[int, int, int]) -> None:
    """An affine model that one corner of the box alone fools, at a budget that reaches it."""
    size = math.prod(shape)
    linear = nn.Linear(size, 2)
    with torch.no_grad():
        linear.weight.copy_(torch.stack([torch.zeros(size), torch.ones(size)]))
        linear.bias.copy_(torch.tensor([0.0, -0.75 * size]))
    classifier = make_classifier("sum", nn.Sequential(nn.Flatten(), linear), shape)
    images = Images(("a", "b"), torch.full((2, *shape), 0.5), torch.zeros(2).long())
    radius = norm.size(torch.full((2, size), 0.5))
    candidates = run(Square(norm=norm, queries=400), classifier, images, radius)
    if norm is not Norm.L1 or shape[0] == 1:
        # In L1 every bump has as much of one sign as of the other: over several channels such a corner is too far.
        assert np.isfinite(sizes(classifier, images, candidates, norm)).all()
    within = norm.size(candidates.double() - images.pixels.double())
    assert (within <= radius.double() * (1 + 1e-6)).all()


@EACH
def test_square_costs_one_forward_a_query_and_drops_the_fooled(norm: Norm) -> None:
    classifier, weight, bias = affine(1)
    images = random_images(1, 10, classifier)
    exact = torch.tensor(affine_distances(weight, bias, images, norm))
    budget = exact * torch.tensor([0.5, 3.0] * 5)
    view = classifier.metered(len(images))
    Square(norm=norm, queries=300, restarts=2).within(view, images, budget, streams(images))
    assert view.meter.forwards[::2].tolist() == [600.0] * 5
    assert (view.meter.forwards[1::2] < 300).all()
    assert not view.meter.backwards.any()


def test_the_windows_follow_the_published_schedule() -> None:
    attack = Square(norm=Norm.LINF, queries=10_000)
    share = [attack._side(q, 224, 224) ** 2 / 224**2 for q in (0, 10, 11, 8000, 8001)]
    np.testing.assert_allclose(share, [0.8, 0.8, 0.4, 0.8 / 256, 0.8 / 512], rtol=0.08)
    short = Square(norm=Norm.LINF, queries=500)
    assert [short._side(q, 224, 224) for q in (0, 1, 400, 401)] == [
        attack._side(q, 224, 224) for q in (0, 20, 8000, 8020)
    ]
    assert len(HALVINGS) == 9
    assert Square(norm=Norm.L2)._side(4999, 8, 8) == 3
    assert Square(norm=Norm.L2)._side(4999, 2, 2) == 1


@pytest.mark.parametrize("norm", [Norm.L1, Norm.L2])
@pytest.mark.parametrize("side", [1, 2, 3, 4, 7])
def test_a_bump_has_unit_size_and_two_equal_halves(norm: Norm, side: int) -> None:
    shape = bump(side, norm)
    assert norm.size(shape[None]).item() == pytest.approx(1)
    if side > 1:
        upper, lower = shape[: side // 2], shape[side // 2 :]
        assert (upper > 0).all()
        assert (lower < 0).all()
        assert norm.size(upper[None]).item() == pytest.approx(norm.size(lower[None]).item())
        assert abs(upper[side // 4, side // 2]) == upper.max()
