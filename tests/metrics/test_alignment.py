"""The alignment of perturbations with singular vectors, against known matrices and the law of chance."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import beta
from torch import Tensor

from metric_cases import F64, curve, images_of, measure, random_pixels, small_net
from robusteval.analysis.metrics.alignment import chance
from robusteval.core import memory
from robusteval.metrics.alignment import Alignment, cosines
from robusteval.metrics.random_twin import random_twin
from robusteval.models.classifier import Classifier
from robusteval.numerics.jacobian import jacobian, outputs
from robusteval.numerics.singular import (
    Singular,
)
from spectra import D, known


def aligned(classifier: Classifier, perturbations: Tensor, **settings: Any) -> Tensor:
    """(ranks, N)"""
    pixels = random_pixels(len(perturbations))
    metric = Alignment.model_validate({"witnesses": "some", "ranks": None} | settings)
    return curve(measure(metric, classifier, images_of(pixels), pixels + perturbations.view_as(pixels)), "alignment")


def test_alignment_of_known_perturbations() -> None:
    """Of 0.01 (3 v_1 - 4 v_3), 2 v_2, and of something orthogonal to all."""
    classifier, v = known([5.0, 3.0, 2.0, 1.0])
    outside = torch.randn(D, dtype=F64)
    outside -= (v @ outside) @ v
    found = aligned(classifier, torch.stack([0.01 * (3 * v[0] - 4 * v[2]), 2 * v[1], outside]), twin=False)
    expected = torch.tensor([[0.6, 0, 0.8, 0], [0, 1, 0, 0], [0, 0, 0, 0]], dtype=F64)
    assert torch.allclose(found.T, expected, atol=1e-9)


def test_vectors_of_equal_singular_values_share_their_alignment() -> None:
    """3 v_2 + 4 v_3 where these two belong to one value, twice: the space has cosine 1, each of them 1 / sqrt(2).
    Vectors of zero singular values have none."""
    classifier, v = known([5.0, 2.0, 2.0, 1.0, 0.0, 0.0])
    found = aligned(classifier, (3 * v[1] + 4 * v[2])[None], twin=False)[:, 0]
    assert torch.allclose(found[:4], torch.tensor([0, 0.5, 0.5, 0], dtype=F64).sqrt(), atol=1e-7)
    assert found[4:].isnan().all()
    close = Singular(torch.tensor([[1.0, 1 - 1e-6, 0.9]], dtype=F64), torch.eye(3, dtype=F64)[None], 1e-5)
    assert torch.allclose(
        cosines(close, torch.tensor([[1.0, 0, 0]], dtype=F64)).square(), torch.tensor([0.5, 0.5, 0]).double()
    )


def test_what_did_not_converge_has_no_alignment_and_harms_no_other() -> None:
    nan = math.nan
    found = Singular(torch.tensor([[2.0, 1.0, nan]], dtype=F64), torch.eye(3, dtype=F64)[None], 1e-3)
    found.vectors[0, 2] = nan
    shares = cosines(found, torch.tensor([[3.0, 4.0, 0]], dtype=F64))[0]
    assert shares[:2].tolist() == pytest.approx([0.6, 0.8])
    assert shares[2].isnan()


def test_no_witness_no_perturbation_no_alignment() -> None:
    classifier, v = known([5.0, 3.0, 2.0])
    perturbations = torch.stack([v[0], 0 * v[0], torch.full_like(v[0], math.nan), 1e-6 * v[1]])
    found = aligned(classifier, perturbations)
    assert found[:, 1:3].isnan().all()
    assert found[0, 0] == pytest.approx(1)
    assert found[1, 3] == pytest.approx(1, abs=1e-6)
    pixels = random_pixels(2)
    none = measure(Alignment(witnesses="some"), classifier, images_of(pixels), torch.full_like(pixels, math.nan))
    assert none == []


def test_alignment_without_the_matrix_is_that_with_it() -> None:
    classifier, perturbations = small_net(12), 0.1 * random_pixels(4).flip(0).flatten(1)
    full = aligned(classifier, perturbations, ranks=3)
    with memory.at_most(1):
        assert torch.allclose(aligned(classifier, perturbations, ranks=3), full, atol=1e-3)


def test_alignment_of_the_twin_is_with_its_vectors() -> None:
    pixels, classifier = random_pixels(4), small_net()
    perturbations = random_pixels(4).flip(0) - pixels
    metric = Alignment(witnesses="some", ranks=4, twin_seed=3)
    found = curve(measure(metric, classifier, images_of(pixels), pixels + perturbations), "alignment_twin")
    _, _, vh = torch.linalg.svd(jacobian(outputs(random_twin(classifier, 3), "features"), pixels))
    unit = perturbations.flatten(1) / perturbations.flatten(1).norm(dim=1, keepdim=True)
    assert torch.allclose(found.T, (vh[:, :4] @ unit[:, :, None])[:, :, 0].abs(), atol=1e-7)


@pytest.mark.parametrize("dimensions", [1, 2, 3, 64, 784, 150_528])
def test_the_alignment_of_a_direction_at_random(dimensions: int) -> None:
    """cos^2 is Beta(1/2, (D - 1) / 2); for large D the mean |cos| is that of a Gaussian, sqrt(2 / (pi D))."""
    expected = 1.0 if dimensions == 1 else beta(0.5, (dimensions - 1) / 2).expect(np.sqrt) if dimensions < 100 else None
    if expected is None:
        expected = math.sqrt(2 / (math.pi * dimensions)) * (1 + 1 / (4 * dimensions))
    assert chance(dimensions) == pytest.approx(expected, rel=1e-5)
