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
        """Those of the batches of a shard, put together."""
        if len(parts) == 1:
            return parts[0]
        tables = dict.fromkeys(name for part in parts for name in part.others)
        return cls(
            pd.concat([part.rows for part in parts], ignore_index=True),
            {t: pd.concat([p.others[t] for p in parts if t in p.others], ignore_index=True) for t in tables},
            {name: array for part in parts for name, array in part.arrays.items()},
            sum((part.cost for part in parts), Cost()),
        )

    def timed(self, seconds: float) -> Cost:
        """What it cost, the time included."""
        return self.cost.model_copy(update={"seconds": seconds})
