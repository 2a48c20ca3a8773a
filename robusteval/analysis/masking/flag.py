"""A flag, and the evidence that raises one: shares and pairs of images, with their intervals and tests."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from statsmodels.stats.contingency_tables import mcnemar

from robusteval.analysis import show
from robusteval.analysis.intervals import Proportion, proportion
from robusteval.analysis.masking import signs as masking

Hits = NDArray[np.bool_]
"""Which images (n,) show something."""


@dataclass(frozen=True)
class Flag:
    """A reason to doubt the attacks of a run. `evidence` are sentences with counts and 95 % intervals."""

    name: str
    title: str
    evidence: str
    threshold: str
    mitigation: str
    severity: Literal["serious", "warning"]
    cause: bool = False
    """Whether it is a property of the model that may raise other flags by itself."""


def flag(name: str, evidence: str) -> Flag:
    sign = masking.SIGNS[name]
    return Flag(name, sign.title, evidence, sign.threshold, sign.mitigation, sign.severity, sign.cause)


def rare(name: str, hits: Hits, what: str, share: float = masking.RARE) -> Iterator[Flag]:
    """A flag if more than `share` of the images show it, with 95 % confidence; of no images none."""
    if not len(hits):
        return
    found = proportion(hits)
    if found.low > share:
        yield flag(name, f"{with_interval(found)} {what}.")


def paired(one: Hits, first: str, other: Hits, second: str) -> tuple[float, str]:
    """The p-value of one fooling more images than the other, 1 where it does not, and the counts in words."""
    more, fewer = int((one & ~other).sum()), int((other & ~one).sum())
    p = float(mcnemar([[0, more], [fewer, 0]], exact=True).pvalue) if more > fewer else 1.0
    counts = f"{with_interval(proportion(one & ~other))} fall to {first} only and {fewer:,} to {second} only"
    return p, f"{counts} (McNemar p = {p:.1g})"


def plateau(small: Hits, large: Hits) -> str:
    """The evidence that an error does not grow from one budget to a larger one; empty if it may."""
    if small.all():
        return ""
    first, then = proportion(small), proportion(large[~small])
    if not (first.low > masking.PLATEAU and then.high < masking.PLATEAU):
        return ""
    return f"{with_interval(first)} fall at the smaller budget, and of the others {with_interval(then)} at the larger."


def counted_images(hits: Hits) -> str:
    """How many images show something, with their interval."""
    return with_interval(proportion(hits))


def with_interval(p: Proportion) -> str:
    return f"{p.count:,} of {show.images(p.n)} ({show.percents(p.low, p.high)})"
