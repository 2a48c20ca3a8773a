"""Part: what a stage leaves of a shard."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import pandas as pd

from robusteval.results.files import Arrays
from robusteval.results.records import Cost


@dataclass(frozen=True)
class Part:
    """The rows of one shard: its main table, further tables by name, its arrays, and what it cost but for the time
    outside the models, which an engine measures."""

    rows: pd.DataFrame
    others: Mapping[str, pd.DataFrame] = field(default_factory=dict)
    arrays: Arrays = field(default_factory=dict)
    cost: Cost = field(default_factory=Cost)

    @classmethod
    def of_batches(cls, parts: Sequence[Part]) -> Part:
        """Those of the batches of a shard, put together: rows image by image in the order of their ids, so that they
        are the same whatever the batches were."""
        tables = dict.fromkeys(name for part in parts for name in part.others)
        return cls(
            _by_image([part.rows for part in parts]),
            {table: _by_image([part.others[table] for part in parts if table in part.others]) for table in tables},
            {name: array for part in parts for name, array in part.arrays.items()},
            sum((part.cost for part in parts), Cost()),
        )

    def timed(self, seconds: float) -> Cost:
        """What it cost, the time included."""
        return self.cost.model_copy(update={"seconds": seconds})


def _by_image(frames: Sequence[pd.DataFrame]) -> pd.DataFrame:
    rows = pd.concat(frames, ignore_index=True)
    return rows.sort_values("image_id", kind="stable", ignore_index=True) if "image_id" in rows else rows
