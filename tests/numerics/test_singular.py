"""Singular values and vectors, with the matrix and without it, against known ones."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from metric_cases import F64, random_pixels, small_net
from robusteval.core import memory
from robusteval.core.errors import UnsupportedError
from robusteval.models.architectures import ARCHITECTURES
from robusteval.models.making import make_classifier
from robusteval.numerics.jacobian import jacobian, outputs, spectrum
from robusteval.numerics.singular import (
    BASIS,
    GUARD,
    decompose,
    leading,
    singular_values,
    singular_vectors,
    without_matrix,
)
from spectra import D, known, matrix_map, orthonormal, streams


class Once(torch.autograd.Function):
    """A layer that cannot be differentiated twice."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return 2 * x

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return 2 * gradient


def test_a_layer_that_cannot_be_differentiated_twice_is_unsupported() -> None:
    pixels = random_pixels(2)

    def f(x: Tensor) -> Tensor:
        y: Tensor = Once.apply(x.flatten(1))  # type: ignore[no-untyped-call]
        return y

    with pytest.raises(UnsupportedError, match="differentiated twice, got"):
        leading(f, pixels, 2, streams(pixels))


@pytest.mark.parametrize(("rows", "columns"), [(5, 20), (20, 5), (6, 6)])
def test_all_singular_values_and_vectors_of_a_matrix(rows: int, columns: int) -> None:
    torch.manual_seed(0)
    j = torch.randn(3, rows, columns, dtype=F64)
    j[2, 1] = torch.nan
    _, s, vh = torch.linalg.svd(j[:2], full_matrices=False)
    found = decompose(j)
    for values in (spectrum(j), found.values):
        assert torch.allclose(values[:2], s, rtol=1e-9)
        assert values[2].isnan().all()
    assert torch.allclose((found.vectors[:2] * vh).sum(2).abs(), torch.ones_like(s), rtol=1e-9)
    assert found.vectors[2].isnan().all()


SPECTRA = {
    "geometric": 0.9 ** np.arange(60),
    "slow": 0.99 ** np.arange(60),
    "flat": np.ones(60),
    "triples": np.repeat(0.9 ** np.arange(20), 3),
    "a cluster within 1 %": np.append(1 - 2e-4 * np.arange(50), np.full(10, 0.5)),
    "a cluster behind the first": np.append([3.0, 2.0], 1 - 1e-4 * np.arange(58)),
    "rank 3": np.append([3.0, 2.0, 1.0], np.zeros(57)),
    "nothing": np.zeros(60),
}


@pytest.mark.parametrize("dtype", [torch.float32, F64])
@pytest.mark.parametrize("k", [1, 4, 12])
@pytest.mark.parametrize("name", SPECTRA)
def test_leading_singular_values_meet_the_full_ones(name: str, k: int, dtype: torch.dtype) -> None:
    torch.manual_seed(2)
    s = torch.tensor(SPECTRA[name])
    w = orthonormal(60, 60) @ torch.diag(s) @ orthonormal(96, 60).T
    pixels = torch.rand(3, 2, 6, 8).to(dtype)
    found = leading(matrix_map(w.to(dtype)), pixels, k, streams(pixels))
    assert found.values.shape == (3, k)
    assert torch.allclose(found.values, s[:k].expand(3, k), rtol=1e-3, atol=1e-5)
    gram = found.vectors @ found.vectors.mT
    assert torch.allclose(gram, torch.eye(k, dtype=F64).expand(3, k, k), atol=1e-9)
    # Each pair is one: |J v| = s. (Where J v is zero, any v will do.)
    assert torch.allclose((found.vectors @ w.T).norm(dim=2), found.values, rtol=1e-3, atol=1e-5)


def test_leading_singular_vectors_are_those_of_the_matrix() -> None:
    classifier, v = known([5.0, 3.0, 2.0, 1.0, 0.5])
    pixels = random_pixels(4)
    found = leading(outputs(classifier, "features"), pixels, 3, streams(pixels), tolerance=1e-6)
    assert torch.allclose(found.values, torch.tensor([5.0, 3.0, 2.0], dtype=F64).expand(4, 3), rtol=1e-6)
    assert torch.allclose((found.vectors * v[:3]).sum(2).abs(), torch.ones(4, 3, dtype=F64), rtol=1e-9)


@pytest.mark.parametrize("arch", ["cnn7-mnist", "digits-cnn"])
def test_leading_singular_values_of_networks(arch: str) -> None:
    torch.manual_seed(0)
    shape = ARCHITECTURES[arch].input_shape
    classifier = make_classifier("random", ARCHITECTURES[arch].network().eval(), shape)
    pixels = torch.rand(3, *shape)
    f = outputs(classifier, "features")
    full = decompose(jacobian(f, pixels))
    for k in (1, 6):
        found = leading(f, pixels, k, streams(pixels))
        assert torch.allclose(found.values, full.values[:, :k], rtol=1e-3)
    assert ((found.vectors @ full.vectors[:, :6].mT).square().sum(2) > 0.99).all()


def test_the_largest_is_not_taken_for_its_neighbours() -> None:
    """One direction alone that starts nearly orthogonal to the first would pass the second or third for it."""
    torch.manual_seed(2)
    s = torch.cat([torch.tensor([1, 0.997, 0.994]), torch.full((57,), 0.3)]).double()
    w = orthonormal(60, 60) @ torch.diag(s) @ orthonormal(96, 60).T
    pixels = torch.rand(400, 2, 6, 8, dtype=F64)
    found = leading(matrix_map(w), pixels, 1, streams(pixels))
    assert ((found.values - 1).abs() < 1e-3).all()


def test_what_does_not_converge_is_nan_and_so_is_all_behind() -> None:
    torch.manual_seed(2)
    s = torch.cat([torch.tensor([100.0]), 0.99 ** torch.arange(59)]).double()
    w = orthonormal(60, 60) @ torch.diag(s) @ orthonormal(96, 60).T
    pixels = torch.rand(40, 2, 6, 8, dtype=F64)
    found = leading(matrix_map(w), pixels, 4, streams(pixels), steps=11)
    bad = found.values.isnan()
    assert bad.any(1).float().mean() > 0.5
    assert not bad.all(1).any()
    assert (bad[:, 1:] >= bad[:, :-1]).all()
    assert (found.vectors.isnan().all(2) == bad).all()
    assert torch.allclose(found.values[~bad], s[:4].expand(40, 4)[~bad], rtol=1e-3)


def test_a_gradient_that_is_not_finite_harms_its_own_image_only() -> None:
    pixels = random_pixels(3) + 0.1
    w = torch.randn(12, D, dtype=F64, generator=torch.Generator().manual_seed(0))

    def f(x: Tensor) -> Tensor:
        return x.flatten(1) @ w.T + (x.flatten(1)[:, :12]).sqrt()

    alone = leading(f, pixels, 3, streams(pixels)).values
    pixels[1, 0, 0, 0] = 0
    for found in (leading(f, pixels, 3, streams(pixels)).values, spectrum(jacobian(f, pixels))[:, :3]):
        assert found[1].isnan().all()
        assert torch.allclose(found[[0, 2]], alone[[0, 2]], rtol=1e-3)


def test_the_matrix_is_made_where_it_fits_and_is_cheaper() -> None:
    pixels, w = torch.rand(2, 2, 6, 8, dtype=F64), torch.randn(130, 96, dtype=F64)
    f = matrix_map(w)
    full = torch.linalg.svdvals(w)
    assert without_matrix(f, pixels, None) == without_matrix(f, pixels, 3) == 0
    assert without_matrix(f, pixels, 2) == 2
    assert torch.allclose(singular_values(f, pixels, 3, 10, streams(pixels))[0], full[:3], rtol=1e-12)
    two = singular_values(f, pixels, 2, 10, streams(pixels))
    assert torch.allclose(two, full[:2].expand(2, 2), rtol=1e-3)
    with memory.at_most(96 * 129):
        assert without_matrix(f, pixels, None) == 20
        assert without_matrix(f, pixels, 50) == 45
        every = singular_values(f, pixels, None, 10, streams(pixels))
    assert torch.allclose(every, full[:20].expand(2, 20), rtol=1e-3)
    # As many images at a time as fit: here one.
    with memory.at_most(BASIS * (4 + GUARD) * 96):
        parts = list(singular_vectors(f, pixels, 4, 10, streams(pixels)))
    assert [len(part.values) for part in parts] == [1, 1]
    assert parts[0].resolution == 1e-3


def test_the_iteration_treats_each_image_by_itself() -> None:
    classifier, pixels = small_net(40), random_pixels(6)
    f = outputs(classifier, "features")
    together = leading(f, pixels, 3, streams(pixels))
    for i in (0, 4):
        one = torch.tensor([i])
        alone = leading(f, pixels[one], 3, streams(pixels).select(one))
        assert torch.allclose(alone.values[0], together.values[i], rtol=1e-9)
