"""Random streams: independent per image, the same in every batch, uniform where they say so."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise

import pytest
import torch
from scipy import stats
from torch import Tensor

from robusteval.core.norms import BALLS, Norm
from robusteval.core.streams import Streams, derive_seed

IDS = ["a", "b", "c", "d"]
LIKE = torch.zeros(1, dtype=torch.float64)


def streams(ids: list[str] = IDS, seed: int = 0, method: str = "m") -> Streams:
    return Streams.for_images(seed, method, ids, LIKE)


def draws(own: Streams) -> list[torch.Tensor]:
    """One of each kind, in a fixed order."""
    balls = [own.in_ball(norm, 1, 2, 3) for norm in BALLS]
    return [own.normal(2, 3), own.uniform(4), own.integers(7, 5), *balls, own.normal()]


def test_an_image_draws_the_same_alone_in_another_order_and_after_a_selection() -> None:
    together = draws(streams())
    for i, image_id in enumerate(IDS):
        for kind, alone in zip(together, draws(streams([image_id])), strict=True):
            assert torch.equal(kind[i], alone[0])
    for kind, backwards in zip(together, draws(streams(IDS[::-1])), strict=True):
        assert torch.equal(kind, backwards.flip(0))


def test_selected_streams_go_on_where_they_were() -> None:
    whole, parted = streams(), streams()
    first, second = whole.normal(3), whole.normal(3)
    assert torch.equal(parted.normal(3), first)
    assert torch.equal(parted.select(torch.tensor([True, False, True, False])).normal(3), second[[0, 2]])
    assert torch.equal(parted.select(torch.tensor([3, 1])).normal(3), second[[3, 1]])


def test_seed_method_and_image_each_change_the_draws() -> None:
    base = streams().normal(8)
    for other in (streams(seed=1), streams(method="n"), streams(["e", "f", "g", "h"])):
        assert not torch.isclose(other.normal(8), base).any()
    assert torch.equal(streams().normal(8), base)
    assert streams().seed == streams().seed != streams(IDS[:3]).seed


def test_seeds_are_fixed_for_good() -> None:
    """A run must be repeatable on another machine and in another year; parts cannot run into each other."""
    assert derive_seed(0, "pgd", "x") == derive_seed(0, "pgd", "x")
    assert derive_seed("ab", "c") != derive_seed("a", "bc")
    assert 0 <= derive_seed(0) < 2**63
    assert 0 <= streams().seed < 2**31


def test_draws_take_dtype_and_shape_of_the_pixels() -> None:
    own = Streams.for_images(0, "m", IDS, torch.zeros(2, 2, dtype=torch.float32))
    assert own.normal(2, 3).shape == (4, 2, 3)
    assert own.uniform().shape == (4,)
    assert own.in_ball(Norm.L2, 3, 2, 2).dtype == own.normal(1).dtype == torch.float32
    assert own.integers(3).dtype == torch.int64
    nobody = own.select(torch.zeros(4, dtype=torch.bool))
    assert nobody.normal(2).shape == (0, 2)
    assert nobody.in_ball(Norm.L1, 2).shape == (0, 2)
    assert nobody.integers(5, 2).shape == (0, 2)


def test_float64_and_float32_draw_the_same_numbers() -> None:
    single = Streams.for_images(0, "m", IDS, torch.zeros(1)).uniform(9)
    assert torch.equal(streams().uniform(9), single.double())


@pytest.mark.parametrize("norm", BALLS)
def test_points_are_uniform_in_the_ball(norm: Norm) -> None:
    """|v|^D is uniform in [0, 1] and each coordinate is symmetric with the marginal of the ball: Kolmogorov tests at
    1e-4 for each of 2 + D samples of 4,000 points; the seed is fixed."""
    dimension, n = 3, 4000
    own = Streams.for_images(0, norm.value, [str(i) for i in range(n)], LIKE)
    points = own.in_ball(norm, dimension)
    size = norm.size(points)
    assert (size <= 1 + 1e-6).all()
    assert stats.kstest(size**dimension, "uniform").pvalue > 1e-4
    # The share of the ball with x_k <= t: the cross-sections of the cube, the ball and the octahedron.
    share: dict[Norm, Callable[[Tensor], Tensor]] = {
        Norm.LINF: lambda t: (t + 1) / 2,
        Norm.L2: lambda t: 0.5 + 0.75 * (t - t**3 / 3),
        Norm.L1: lambda t: 0.5 + 0.5 * torch.sign(t) * (1 - (1 - t.abs()) ** 3),
    }
    for k in range(dimension):
        assert stats.kstest(share[norm](points[:, k]), "uniform").pvalue > 1e-4
    signs = (points > 0).double()
    pairs = (signs.T @ signs / n)[~torch.eye(dimension, dtype=torch.bool)]
    assert ((pairs - 0.25).abs() < 5 * math.sqrt(0.25 * 0.75 / n)).all(), "orthants are equally likely"


def test_normals_and_integers_have_their_distributions() -> None:
    own = streams()
    assert stats.kstest(own.normal(2000).flatten(), "norm").pvalue > 1e-4
    counts = own.integers(5, 2000).flatten().bincount(minlength=5)
    assert len(counts) == 5
    assert stats.chisquare(counts).pvalue > 1e-4


def test_streams_of_images_are_not_correlated() -> None:
    """Correlations of 500 independent draws are normal with deviation 1 / sqrt(500): 5 of them."""
    rows = Streams.for_images(0, "m", [str(i) for i in range(20)], LIKE).normal(500)
    off = torch.corrcoef(rows)[~torch.eye(20, dtype=torch.bool)]
    assert off.abs().max() < 5 / math.sqrt(500)


def test_one_stream_for_the_whole_set() -> None:
    whole = Streams.for_set(0, "m", LIKE)
    assert len(whole) == 1
    values = [whole.normal(4) for _ in range(3)]
    assert all(not torch.equal(a, b) for a, b in pairwise(values))


@pytest.mark.parametrize("shape", [(), (3,), (16,), (17,), (2, 3, 5), (32, 1, 28, 28)])
def test_draws_are_those_of_torch_with_the_same_seed(shape: tuple[int, ...]) -> None:
    """Results of published runs rest on them."""
    own = Streams.for_images(0, "m", IDS, torch.zeros(1))
    generators = [torch.Generator().manual_seed(seed) for seed in own.seeds]
    for draw, reference in ((own.normal, torch.randn), (own.uniform, torch.rand)):
        expected = torch.stack([reference(shape, generator=g) for g in generators])
        assert torch.equal(draw(*shape), expected)
