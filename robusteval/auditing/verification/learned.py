"""What stages that are computed again take of a run: what it keeps, and nothing that can be learned again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from robusteval.auditing.engines import Work
from robusteval.auditing.evidence import RunEvidence
from robusteval.auditing.stages.base import Shard
from robusteval.auditing.stages.gather import GatherStage
from robusteval.certify.base import State
from robusteval.results.files import Arrays, read_arrays, read_frame
from robusteval.results.records import CLEAN, Cost


@dataclass(frozen=True)
class LearnedAgain(RunEvidence):
    """The evidence of a run, but for what certificates learn from the whole set: that is never read, but learned
    again; and no shard is there to be computed a second time, since each is computed again anyway."""

    states: Mapping[str, State] = field(default_factory=dict)
    lots: Mapping[str, Arrays] = field(default_factory=dict)
    """What was gathered again, by stage."""

    def state(self, stage: str) -> State:
        return self.states[stage]

    def gathered(self, stage: GatherStage) -> Arrays:
        return self.lots[stage.name]

    def gathered_again(self, work: Work) -> tuple[LearnedAgain, Cost]:
        """The same with what a stage needs to be gathered, which is gathered here; and what that took."""
        stage, cost = work.stage.gatherer, Cost()
        if stage is None:
            return self, cost
        found: Arrays | None = None
        for shard in self.batches:
            part = Work(stage, work.context)(stage.feed(shard, self).loaded())
            found = part.arrays if found is None else stage.merged([found, part.arrays])
            cost += part.cost
        return replace(self, lots={**self.lots, stage.name: found or {}}), cost

    def seconds(self, stage: str, shard: str) -> float | None:
        return None

    def correct(self, shard: Shard) -> Tensor:
        rows = read_frame(self.run.part(CLEAN, shard.name)).set_index("image_id")["correct"]
        return torch.tensor(rows.loc[list(shard.images.ids)].to_numpy(), device=shard.images.device)

    def arrays(self, stage: str, shard: str) -> Arrays:
        """Those that are kept."""
        path = self.run.array_file(stage, shard)
        return read_arrays(path) if path.is_file() else {}
