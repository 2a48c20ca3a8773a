"""Shards computed a second time: which ones, and by how much their rows differ from the first."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from robusteval.auditing.stages.base import Computed, Evidence, Shard, Stage
from robusteval.results.records import AttackRecord, MethodRecord

SHARE = 0.01
"""Of the seconds that the audit's methods took, what each of the two shards may have taken."""
TRIFLE = 0.1
"""Seconds that are little in any audit."""
_SPENT = ["forwards", "backwards"]


def worth_another(stages: Sequence[Stage], evidence: Evidence) -> Iterator[Computed]:
    """A shard of an attack, and one of another method, fed: of those that took at most SHARE of the time a method of
    the user's own first, and the longest; where none took so little, the cheapest."""
    taken: dict[tuple[bool, bool], list[tuple[float, Stage, Shard]]] = {}
    for stage in stages:
        record = stage.record()
        if isinstance(record, MethodRecord) and not record.one_shard:
            kind = isinstance(record, AttackRecord), record.origin.pin is not None
            for shard in evidence.shards():
                seconds = evidence.seconds(stage.name, shard.name)
                if seconds is not None:
                    taken.setdefault(kind, []).append((seconds, stage, shard))
    little = max(TRIFLE, SHARE * sum(seconds for found in taken.values() for seconds, _, _ in found))
    for attack in (True, False):
        own, known = taken.get((attack, True), []), taken.get((attack, False), [])
        cheap = [[one for one in found if one[0] <= little] for found in (own, known)]
        chosen = next((max(found, key=_seconds) for found in cheap if found), None)
        chosen = chosen or min((*own, *known), key=_seconds, default=None)
        if chosen is not None:
            _, stage, shard = chosen
            yield Computed(stage, stage.feed(shard, evidence), evidence.rows(stage.name, shard.name))


def _seconds(one: tuple[float, Stage, Shard]) -> float:
    return one[0]


def changes(first: pd.DataFrame, again: pd.DataFrame) -> pd.Series[float]:
    """By image, the largest change of a value of its rows but for what they cost, relative to the value (to 1e-3 where
    it is smaller), at most 1: for words, truth values, classes and what is finite in one only it is 0 or 1."""
    ids = pd.Index(pd.concat([first["image_id"], again["image_id"]]).unique())
    if len(first) != len(again):
        return pd.Series(1.0, index=ids)
    change: NDArray[np.float64] = np.zeros(len(first))
    for name in first.columns.difference(_SPENT):
        old, new = first[name].to_numpy(), again[name].to_numpy()
        change = np.maximum(change, _relative(old, new) if old.dtype.kind == "f" else (old != new).astype(float))
    return pd.Series(change, index=first["image_id"]).groupby(level=0).max().reindex(ids, fill_value=1.0)


def _relative(old: NDArray[np.float64], new: NDArray[np.float64]) -> NDArray[np.float64]:
    same = (old == new) | (np.isnan(old) & np.isnan(new))
    both = np.isfinite(old) & np.isfinite(new)
    one, other = np.where(both, old, 0.0), np.where(both, new, 0.0)
    relative = np.abs(one - other) / np.maximum(np.maximum(np.abs(one), np.abs(other)), 1e-3)
    return np.where(same, 0.0, np.where(both, np.minimum(relative, 1.0), 1.0))


def tolerance_of(dtype: torch.dtype) -> float:
    """Relative tolerance for numbers that a model computes again in this precision."""
    return 1e-8 if dtype == torch.float64 else 1e-3
