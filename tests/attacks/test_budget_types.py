"""A budget may be of another floating-point type than the images: an attack called directly computes the same."""

from __future__ import annotations

import pytest
import torch

import attacking
from oracles import affine, random_images
from robusteval.core.norms import Norm

BOUNDED = [case for case in attacking.CASES if case[0] in attacking.BOUNDED]


@pytest.mark.parametrize(("name", "norm"), BOUNDED, ids=[f"{name}-{norm.value}" for name, norm in BOUNDED])
def test_a_budget_in_float64_finds_what_one_in_float32_finds(name: str, norm: Norm) -> None:
    classifier, _, _ = affine(3, shape=(1, 6, 6))
    images, attack = random_images(1, 3, classifier), attacking.fast(name, norm)
    # A number of both types.
    radii = torch.full((3,), 2.0 if norm is Norm.L0 else 0.0625)
    found = [
        attacking.find(attack, classifier.metered(3), images, radii.to(dtype), attacking.streams(images)).examples
        for dtype in (torch.float32, torch.float64)
    ]
    assert found[1].dtype == torch.float32
    assert torch.equal(*found)
