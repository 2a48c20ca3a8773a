"""Sigma as covariance functions and as a matrix: both stand for the same, and for the means that Eq. 15 and 16 name."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from defending import F64
from robusteval.defenses.second_moments import (
    Shape,
    correlations,
    expanded,
    functions_of,
    long_range_functions,
    matrix_of,
    quadratic_of_functions,
    quadratic_of_matrix,
    rings,
    white,
)

SHAPES = [(1, 4, 4), (1, 5, 3), (3, 3, 4), (3, 5, 2), (2, 1, 6)]
ROUNDING = 1e-12
"""Sums of at most a hundred products of order one in float64, by FFT: a few hundred units in the last place, 1e-13."""


def draws(n: int, shape: Shape, seed: int = 0) -> Tensor:
    return torch.randn(n, *shape, generator=torch.Generator().manual_seed(seed), dtype=F64)


def distance(a: int, b: int, shape: Shape) -> int:
    """Of two entries of a flat image: the rounded distance of their pixels."""
    (i, j), (k, m) = divmod(a % (shape[1] * shape[2]), shape[2]), divmod(b % (shape[1] * shape[2]), shape[2])
    return round(math.dist((i, j), (k, m)))


def channel(a: int, shape: Shape) -> int:
    return a // (shape[1] * shape[2])


@pytest.mark.parametrize("shape", SHAPES)
def test_covariance_functions_are_applied_as_the_matrix_that_they_stand_for(shape: Shape) -> None:
    functions = torch.randn(shape[0], shape[0], int(rings(shape).max()) + 1, dtype=F64)
    functions = functions + functions.mT.transpose(1, 2).transpose(0, 1)  # symmetric in the channels
    g = draws(4, shape)
    by_matrix = quadratic_of_matrix(expanded(functions, shape), g)
    by_functions = quadratic_of_functions(functions, correlations(g), shape)
    assert torch.allclose(by_functions, by_matrix, rtol=ROUNDING * 10, atol=ROUNDING * 10)


@pytest.mark.parametrize("shape", SHAPES)
def test_the_matrix_has_the_function_at_the_rounded_distance_of_every_pair(shape: Shape) -> None:
    functions = long_range_functions(shape, 2.5)
    size = math.prod(shape)
    for a in range(size):
        for b in range(size):
            within = 1.0 if channel(a, shape) == channel(b, shape) else 0.5
            entry = within * math.exp(-distance(a, b, shape) / 2.5)
            assert float(expanded(functions, shape)[a, b]) == pytest.approx(entry, rel=1e-6)  # float32
    assert torch.equal(expanded(white(shape), shape), torch.eye(size))


@pytest.mark.parametrize("shape", SHAPES)
def test_covariance_functions_are_means_over_all_pairs_of_a_rounded_distance(shape: Shape) -> None:
    xi = draws(6, shape)
    flat = xi.flatten(1)
    sums: dict[tuple[int, int, int], float] = {}
    counts: dict[tuple[int, int, int], int] = {}
    for a in range(flat.shape[1]):
        for b in range(flat.shape[1]):
            key = channel(a, shape), channel(b, shape), distance(a, b, shape)
            sums[key] = sums.get(key, 0.0) + float((flat[:, a] * flat[:, b]).mean())
            counts[key] = counts.get(key, 0) + 1
    variance = float(xi.square().mean())
    found = functions_of(xi)
    for (c, d, r), total in sums.items():
        assert float(found[c, d, r]) == pytest.approx(total / counts[c, d, r] / variance, abs=ROUNDING)


@pytest.mark.parametrize("shape", SHAPES)
def test_functions_of_perturbations_that_depend_on_rounded_distance_alone_are_their_whole_matrix(shape: Shape) -> None:
    """Perturbations whose second moments are exactly a given matrix: its square root times the units, scaled."""
    sigma = expanded(white(shape), shape).double()
    for c in range(shape[0]):
        for d in range(shape[0]):
            if c != d:
                sigma += 0.3 * torch.kron(_unit(shape[0], c, d), torch.eye(shape[1] * shape[2], dtype=F64))
    # Neighbours one pixel apart: rounded distance 1 holds the straight and the diagonal ones.
    near = torch.tensor(
        [[distance(a, b, (1, *shape[1:])) == 1 for b in range(shape[1] * shape[2])] for a in range(shape[1] * shape[2])]
    )
    sigma = sigma + 0.05 * torch.kron(torch.eye(shape[0], dtype=F64), near.double())
    size = len(sigma)
    xi = (torch.linalg.cholesky(sigma) * math.sqrt(size)).T.reshape(size, *shape)
    assert torch.allclose(matrix_of(xi), sigma, rtol=0, atol=ROUNDING)
    assert torch.allclose(expanded(functions_of(xi), shape), sigma, rtol=0, atol=ROUNDING)


def _unit(n: int, row: int, column: int) -> Tensor:
    unit = torch.zeros(n, n, dtype=F64)
    unit[row, column] = 1.0
    return unit


@pytest.mark.parametrize("shape", SHAPES)
def test_the_mean_diagonal_entry_is_one_whatever_the_scale(shape: Shape) -> None:
    xi = draws(6, shape) * torch.logspace(-1, 1, math.prod(shape), dtype=F64).view(shape)
    for scale in (1e-6, 1.0, 1e3):
        assert float(matrix_of(scale * xi).diagonal().mean()) == pytest.approx(1, abs=ROUNDING)
        assert float(expanded(functions_of(scale * xi), shape).diagonal().mean()) == pytest.approx(1, abs=ROUNDING)
    assert torch.equal(matrix_of(0 * xi), torch.zeros_like(matrix_of(xi)))
    assert torch.equal(functions_of(0 * xi), torch.zeros_like(functions_of(xi)))


def test_second_moments_are_raw() -> None:
    """Nothing is subtracted: equal perturbations have a matrix of ones."""
    assert torch.equal(matrix_of(torch.full((3, 1, 2, 2), 0.1)), torch.ones(4, 4))
