"""What stages that are computed again take of a run: what it keeps, and nothing that can be learned again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from robusteval.auditing.evidence import RunEvidence
from robusteval.auditing.stages.base import Shard
from robusteval.certify.base import State
from robusteval.results.files import Arrays, read_arrays, read_frame
from robusteval.results.records import CLEAN


@dataclass(frozen=True)
class LearnedAgain(RunEvidence):
    """The evidence of a run, but for what certificates learn from the whole set: that is never read, but learned
    again; and no shard is there to be computed a second time, since each is computed again anyway."""

    states: Mapping[str, State] = field(default_factory=dict)

    def state(self, stage: str) -> State:
        return self.states[stage]

    def seconds(self, stage: str, shard: str) -> float | None:
        return None

    def correct(self, shard: Shard) -> Tensor:
        rows = read_frame(self.run.part(CLEAN, shard.name)).set_index("image_id")["correct"]
        return torch.tensor(rows.loc[list(shard.images.ids)].to_numpy(), device=shard.images.device)

    def arrays(self, stage: str, shard: str) -> Arrays:
        """Those that are kept."""
        path = self.run.array_file(stage, shard)
        return read_arrays(path) if path.is_file() else {}
