"""What the random numbers of an image cost: torch's generators against a counter-based one in tensor operations.

    python benchmarks/streams.py

Draws are made by one torch generator an image, on the CPU (robusteval/core/streams.py). Philox4x32-10 (Salmon et al.
2011, Parallel random numbers: as easy as 1, 2, 3) needs no state and gives the same words on every device; here its
words, checked against the answer that its authors publish for key and counter zero, become normal numbers by Box and
Muller. Printed are the least processor nanoseconds a normal number in one thread, for blocks of several sizes, and the
ratio.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable

import torch
from torch import Tensor

MULTIPLIERS = 0xD2511F53, 0xCD9E8D57
WEYL = 0x9E3779B9, 0xBB67AE85
WORD = 0xFFFFFFFF
ROUNDS = 10
KNOWN = 0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8
SHAPES = {"3 x 32 x 32": 3072, "32 of 3 x 32 x 32": 32 * 3072, "1,000 of 3 x 32 x 32": 1000 * 3072}
SECONDS = 2.0


def words(blocks: int, key: tuple[int, int]) -> tuple[Tensor, ...]:
    """Four words of 32 bits, (blocks,) int64 each, of the counters from 0."""
    a = torch.arange(blocks)
    b, c, d = (torch.zeros_like(a) for _ in range(3))
    for _ in range(ROUNDS):
        first, second = a * MULTIPLIERS[0], c * MULTIPLIERS[1]
        a, c = (second >> 32 & WORD) ^ b ^ key[0], (first >> 32 & WORD) ^ d ^ key[1]
        b, d = second & WORD, first & WORD
        key = (key[0] + WEYL[0]) & WORD, (key[1] + WEYL[1]) & WORD
    return a, b, c, d


def normal(count: int, key: tuple[int, int]) -> Tensor:
    """Standard normal numbers (count,), a multiple of four."""
    drawn = words(count // 4, key)
    out = torch.empty(4, count // 4)
    for i in (0, 2):
        radius = ((drawn[i].float() + 0.5) * 2.0**-32).log_().mul_(-2).sqrt_()
        angle = drawn[i + 1].float() * (2 * math.pi * 2.0**-32)
        torch.mul(radius, angle.cos(), out=out[i])
        torch.mul(radius, angle.sin(), out=out[i + 1])
    return out.flatten()


def least(draw: Callable[[], object]) -> float:
    """Processor seconds of the fastest of its turns."""
    turns: list[float] = []
    until = time.process_time() + SECONDS
    while not turns or time.process_time() < until:
        start = time.process_time()
        draw()
        turns.append(time.process_time() - start)
    return min(turns)


def main() -> None:
    torch.set_num_threads(1)
    found = tuple(int(word[0]) for word in words(1, (0, 0)))
    assert found == KNOWN, f"expected {KNOWN}, got {found}"
    generator = torch.Generator().manual_seed(0)
    for title, count in SHAPES.items():
        block = torch.empty(count)
        one = least(lambda block=block: block.normal_(generator=generator))  # type: ignore[misc]
        other = least(lambda count=count: normal(count, (1, 2)))  # type: ignore[misc]
        print(
            f"{title}: torch {one / count * 1e9:.1f}, Philox {other / count * 1e9:.1f} ns a number: {other / one:.1f}x"
        )


if __name__ == "__main__":
    main()
