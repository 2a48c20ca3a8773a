"""Random numbers: one independent stream per (seed, method, image).

Draws are made on the CPU in float32 and then moved, so that a result depends neither on the device nor on
which other images share its batch. A method must draw the same amounts for an image whatever the batch is.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from robusteval.core.errors import UserError
from robusteval.core.norms import Norm
from robusteval.core.numbers import MOST


def check_seed(seed: object) -> None:
    """Raises UserError unless a seed is a whole number from 0 that 64 bits hold, as random generators take it."""
    if not isinstance(seed, int) or isinstance(seed, bool) or not 0 <= seed <= MOST:
        raise UserError(f"expected --seed as a whole number from 0 to {MOST}, got {seed}")


def derive_seed(*parts: object) -> int:
    """A 63-bit seed from any printable parts, the same on every machine and in every process."""
    digest = hashlib.sha256("\x1f".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


@dataclass(frozen=True)
class Streams:
    """One random generator for each of N images."""

    generators: tuple[torch.Generator, ...]
    seeds: tuple[int, ...]
    like: Tensor
    """An empty tensor whose device and dtype the draws take."""

    @classmethod
    def for_images(cls, seed: int, method: str, ids: Sequence[str], like: Tensor) -> Streams:
        check_seed(seed)
        seeds = tuple(derive_seed(seed, method, image_id) for image_id in ids)
        return cls(tuple(torch.Generator().manual_seed(s) for s in seeds), seeds, like.new_empty(0))

    @classmethod
    def for_set(cls, seed: int, method: str, like: Tensor) -> Streams:
        """A single stream (N = 1) for what a method draws over the whole set of images."""
        return cls.for_images(seed, method, ["<whole set>"], like)

    def __len__(self) -> int:
        return len(self.generators)

    @property
    def seed(self) -> int:
        """A seed for a library that knows only one: fixed by the first image and the number of images."""
        return derive_seed(*self.seeds) % 2**31

    def select(self, rows: Tensor) -> Streams:
        """The streams of some images (indices or a mask), sharing their generators' positions."""
        chosen = torch.arange(len(self))[rows.cpu()].tolist()
        return Streams(tuple(self.generators[i] for i in chosen), tuple(self.seeds[i] for i in chosen), self.like)

    def normal(self, *shape: int) -> Tensor:
        """Standard normal draws, (N, *shape)."""
        return self._filled(shape, Tensor.normal_)

    def uniform(self, *shape: int) -> Tensor:
        """Draws uniform in [0, 1), (N, *shape)."""
        return self._filled(shape, Tensor.uniform_)

    def integers(self, high: int, *shape: int) -> Tensor:
        """Integers uniform in [0, high), (N, *shape), int64."""
        draws = [torch.randint(high, shape, generator=g) for g in self.generators]
        return torch.stack(draws).to(self.like.device) if draws else torch.empty((0, *shape), dtype=torch.int64)

    def in_ball(self, norm: Norm, *shape: int) -> Tensor:
        """Points uniform in the unit ball of `norm` in prod(shape) dimensions, (N, *shape)."""
        if norm is Norm.LINF:
            return 2 * self.uniform(*shape) - 1
        gaussian = self.normal(*shape)
        size = gaussian[0].numel() if len(self) else 1
        radius = self.uniform().view(-1, *[1] * len(shape)) ** (1 / size)
        if norm is Norm.L2:
            return norm.scale_to(gaussian, 1.0) * radius
        # Exponentials over their sum are uniform on the simplex.
        exponential = -torch.log1p(-self.uniform(*shape))
        return norm.scale_to(exponential * gaussian.sign(), 1.0) * radius

    def _filled(self, shape: tuple[int, ...], fill: Callable[..., Tensor]) -> Tensor:
        """Each image's draws, made where they stay: on the CPU in float32 nothing is copied."""
        draws = torch.empty(len(self), *shape)
        for row, generator in zip(draws, self.generators, strict=True):
            fill(row, generator=generator)
        return draws.to(self.like)
