"""What earlier stages of a run left, read for those that need it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd
import torch
from torch import Tensor

from robusteval.auditing.stages.base import Shard
from robusteval.auditing.stages.frames import read_statistics
from robusteval.auditing.stages.sanity import read_traits
from robusteval.certify.base import State
from robusteval.core.errors import UnsupportedError
from robusteval.core.images import Images
from robusteval.models.behaviour import Traits
from robusteval.results.records import CLEAN, SANITY
from robusteval.results.run import Arrays, Run, read_arrays, read_cost, read_frame, stored_witness


@dataclass(frozen=True)
class RunEvidence:
    """The parts of a run, and the images cut into batches. `here` are the shards, by stage and name, that were computed
    in this process with as many images at a time as now."""

    run: Run
    batches: tuple[Shard, ...]
    here: frozenset[tuple[str, str]] = frozenset()

    def shards(self) -> Sequence[Shard]:
        return self.batches

    def correct(self, shard: Shard) -> Tensor:
        rows = read_frame(self.run.part(CLEAN, shard.name))
        return torch.tensor(rows["correct"].to_numpy(), device=shard.images.pixels.device)

    def margins(self, shard: Shard) -> Tensor:
        rows = pd.concat([read_frame(self.run.part(CLEAN, s.name)) for s in self.batches]).set_index("image_id")
        found = rows.loc[list(shard.images.ids), "logit_margin"].to_numpy()
        return torch.tensor(found, device=shard.images.pixels.device)

    def state(self, stage: str) -> State:
        return read_statistics(read_frame(self.run.part(stage, "set", "statistics")))

    def seconds(self, stage: str, shard: str) -> float | None:
        path = self.run.part(stage, shard)
        return read_cost(path).seconds if path.exists() else None

    def rows(self, stage: str, shard: str) -> pd.DataFrame | None:
        return read_frame(self.run.part(stage, shard)) if (stage, shard) in self.here else None

    def traits(self) -> Traits:
        """What the sanity stage found of the model."""
        return read_traits(read_statistics(read_frame(self.run.part(SANITY, "00000", "statistics"))))

    def witnesses(self, attack: str, shards: Sequence[Shard]) -> Tensor:
        found = []
        for shard in shards:
            path = self.run.part(attack, shard.name)
            if not path.exists():
                raise UnsupportedError(f"expected witnesses of '{attack}', which could not run")
            arrays = read_arrays(self.run.array_file(attack, shard.name))
            found.append(closest_witnesses(read_frame(path), arrays, shard.images))
        return torch.cat(found)


def closest_witnesses(rows: pd.DataFrame, arrays: Arrays, images: Images) -> Tensor:
    """For each image the closest witness of one attack, in the attack's own norm; NaN where it found none."""
    result = torch.full_like(images.pixels, torch.nan)
    own = rows[rows["success"]]
    for i, image_id in enumerate(images.ids):
        candidates = own[own["image_id"] == image_id]
        if len(candidates):
            closest = candidates.loc[candidates[candidates["norm"].iloc[0]].idxmin()]
            kept = stored_witness(arrays, image_id, closest["budget"], own["budget"])
            if kept is not None:
                result[i] = torch.tensor(kept).to(result)
    return result
