"""Rounds: what they share, and what they begin at."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from attacking import streams
from oracles import affine, random_images
from robusteval.attacks.search.rounds import in_rounds, lengths


@pytest.mark.parametrize(("steps", "count"), [(1, 1), (30, 1), (100, 2), (496, 4), (1000, 6)])
def test_no_step_is_lost_and_rounds_are_about_equal(steps: int, count: int) -> None:
    shares = lengths(steps)
    assert sum(shares) == steps
    assert len(shares) == count
    assert max(shares) - min(shares) <= 1


def test_the_closest_of_all_rounds_is_kept_and_only_the_first_begins_at_the_image() -> None:
    classifier, _, _ = affine(0)
    images = random_images(0, 3, classifier)
    starts = list[Tensor]()

    def search(start: Tensor, steps: int) -> tuple[Tensor, Tensor]:
        starts.append(start)
        sizes = torch.tensor([[2.0, torch.inf, 1.0], [1.0, torch.inf, 2.0]])[len(starts) - 1]
        return start, sizes

    found = in_rounds(search, images, 100, streams(images))
    assert torch.equal(starts[0], images.pixels)
    assert not torch.equal(starts[1], images.pixels)
    assert torch.equal(found[0], starts[1][0])
    assert torch.equal(found[1:], images.pixels[1:])
