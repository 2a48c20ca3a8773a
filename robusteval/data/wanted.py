"""Which images of a data set are read, before any of them is decoded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from robusteval.core.images import drawn_rows


@dataclass(frozen=True)
class Wanted:
    """The first `limit` images, or `sample` drawn at random by `seed`, else all."""

    limit: int | None = None
    sample: int | None = None
    seed: int = 0

    def rows(self, ids: Sequence[str], where: str) -> Sequence[int]:
        """The places of the images, in their order, of all that there are. Raises UserError where a sample is larger
        than that."""
        if self.sample is not None:
            return drawn_rows(ids, self.sample, self.seed, where)
        return range(len(ids) if self.limit is None else min(self.limit, len(ids)))


def taken(values: NDArray[Any], rows: Sequence[int]) -> NDArray[Any]:
    """Some rows of an array, in the order of `rows`; of the first ones no copy."""
    return values[: len(rows)] if isinstance(rows, range) else values[list(rows)]
