"""What earlier stages of a run left, read for those that need it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd
import torch
from torch import Tensor

from robusteval.auditing.stages.base import Shard
from robusteval.auditing.stages.frames import read_statistics
from robusteval.auditing.stages.gather import GatherStage
from robusteval.auditing.stages.sanity import read_traits
from robusteval.certify.base import State
from robusteval.core.errors import UnsupportedError
from robusteval.core.images import Images
from robusteval.core.norms import Norm
from robusteval.core.stored import StoredPixels
from robusteval.models.behaviour import Traits
from robusteval.results.files import Arrays, read_arrays, read_cost, read_frame
from robusteval.results.records import CLEAN, SANITY, AttackRecord
from robusteval.results.run import Run, stored_witness, witness_key


@dataclass(frozen=True)
class RunEvidence:
    """The parts of a run, and the images cut into batches. `here` are the shards, by stage and name, that were computed
    by this audit since it was begun or continued, with as many images at a time as now, `learnt` the states that were
    read, by stage."""

    run: Run
    batches: tuple[Shard, ...]
    here: set[tuple[str, str]] = field(default_factory=set)
    learnt: dict[str, State] = field(default_factory=dict)

    def shards(self) -> Sequence[Shard]:
        return self.batches

    def correct(self, shard: Shard) -> Tensor:
        rows = read_frame(self.run.part(CLEAN, shard.name))
        return torch.tensor(rows["correct"].to_numpy(), device=shard.images.device)

    def margins(self, shard: Shard) -> Tensor:
        wanted = set(shard.images.ids)
        batches = (batch for batch in self.batches if not wanted.isdisjoint(batch.images.ids))
        frames = [read_frame(self.run.part(CLEAN, batch.name)) for batch in batches]
        rows = pd.concat(frames).set_index("image_id")
        found = rows.loc[list(shard.images.ids), "logit_margin"].to_numpy()
        return torch.tensor(found, device=shard.images.device)

    def state(self, stage: str) -> State:
        if stage not in self.learnt:
            self.learnt[stage] = read_statistics(read_frame(self.run.part(stage, "set", "statistics")))
        return self.learnt[stage]

    def seconds(self, stage: str, shard: str) -> float | None:
        path = self.run.part(stage, shard)
        return read_cost(path).seconds if path.exists() and self.has_needs(stage, shard) else None

    def has_needs(self, stage: str, shard: str | None = None) -> bool:
        """Whether the images that a stage needs of earlier ones are there, those of one shard or of all: where not all
        are kept they are removed when the audit is finished."""
        record, shards = self.run.manifest.stage(stage), [b.name for b in self.batches] if shard is None else [shard]
        earlier = [r.name for r in self.run.manifest.stages if record.rests_on(r.name)]
        places = ((self.run.part(name, s), self._all_arrays(name, s)) for name in earlier for s in shards)
        return all(images.exists() for part, images in places if part.exists())

    def arrays(self, stage: str, shard: str) -> Arrays:
        """All images that a stage left of a shard. Raises UserError where they are not there."""
        return read_arrays(self._all_arrays(stage, shard))

    def _all_arrays(self, stage: str, shard: str) -> Path:
        every = self.run.manifest.images_kept == "all"
        return self.run.array_file(stage, shard) if every else self.run.needed_file(stage, shard)

    def rows(self, stage: str, shard: str) -> pd.DataFrame | None:
        return read_frame(self.run.part(stage, shard)) if (stage, shard) in self.here else None

    def traits(self) -> Traits:
        """What the sanity stage found of the model."""
        return read_traits(read_statistics(read_frame(self.run.part(SANITY, "00000", "statistics"))))

    def witnesses(self, attack: str, shards: Sequence[Shard]) -> Tensor:
        found = []
        for shard in shards:
            rows = read_frame(self._check_there(attack, shard))
            found.append(closest_witnesses(rows, self.arrays(attack, shard.name), shard.images))
        return torch.cat(found)

    def _check_there(self, attack: str, shard: Shard) -> Path:
        """The part of an attack. Raises UnsupportedError."""
        path = self.run.part(attack, shard.name)
        if not path.exists():
            raise UnsupportedError(f"expected witnesses of '{attack}', which could not run")
        return path

    def stored_witnesses(self, attack: str) -> StoredPixels:
        for shard in self.batches:
            self._check_there(attack, shard)
        ends = torch.tensor([len(shard.images) for shard in self.batches]).cumsum(0)
        images = self.batches[0].images

        def read(places: Tensor) -> Tensor:
            """By the shards that they lie in, one after the other."""
            found = torch.empty(len(places), *images.shape, dtype=images.dtype)
            own = torch.bucketize(places, ends, right=True)
            for i in own.unique().tolist():
                shard, here = self.batches[i], own == i
                first = int(ends[i]) - len(shard.images)
                found[here] = self.witnesses(attack, [shard]).cpu()[places[here] - first]
            return found

        return StoredPixels(read, torch.arange(int(ends[-1])), images.shape, images.device, images.dtype)

    def gathered(self, stage: GatherStage) -> Arrays:
        return stage.merged(read_arrays(self.run.needed_file(stage.name, shard.name)) for shard in self.batches)

    def starts(self, attacks: Sequence[str], norm: Norm, shard: Shard) -> Tensor:
        ran = [name for name in attacks if self.run.part(name, shard.name).exists()]
        if not ran:
            raise UnsupportedError("expected witnesses of another attack to start from, none of which could run")
        arrays = [self.arrays(name, shard.name) for name in ran]
        frames = [self._found(name, shard, kept) for name, kept in zip(ran, arrays, strict=True)]
        return closest_in_every_norm(frames, arrays, norm, shard.images)

    def _found(self, stage: str, shard: Shard, arrays: Arrays) -> pd.DataFrame:
        """The rows of the witnesses of a shard by an attack, or by a certificate, which leaves their images alone."""
        if isinstance(self.run.manifest.stage(stage), AttackRecord):
            return read_frame(self.run.part(stage, shard.name))
        return measured_witnesses(arrays, shard.images)


def measured_witnesses(arrays: Arrays, images: Images) -> pd.DataFrame:
    """The rows of witnesses of smallest distance, of which nothing but the images was kept: all were judged."""
    there = [i for i, image_id in enumerate(images.ids) if witness_key(image_id, math.nan) in arrays]
    own = images.select(torch.tensor(there, dtype=torch.int64)).loaded()
    sizes: dict[str, list[float]] = {norm.value: [] for norm in Norm}
    for image_id, pixels in zip(own.ids, own.pixels.double().cpu(), strict=True):
        moved = torch.tensor(arrays[witness_key(image_id, math.nan)]).double() - pixels
        for norm in Norm:
            sizes[norm.value].append(float(norm.size(moved[None])))
    columns = {"image_id": list(own.ids), "budget": math.nan, "success": True, **sizes}
    return pd.DataFrame(columns).astype({"success": bool, "budget": float})


def closest_in_every_norm(
    frames: Sequence[pd.DataFrame], arrays: Sequence[Arrays], norm: Norm, images: Images
) -> Tensor:
    """For each image the closest witness of several attacks, of their rows and images, in `norm` and then in the other
    norms, (4, N, C, H, W); NaN where there is none, or it is one of those before."""
    result = _none((len(Norm), len(images)), images)
    rows = pd.concat([frame[frame["success"]].assign(attack=k) for k, frame in enumerate(frames)], ignore_index=True)
    budgets = [frame.loc[frame["success"], "budget"].unique() for frame in frames]
    of_image = rows.groupby("image_id").groups
    for i, image_id in enumerate(images.ids):
        own = rows.loc[of_image.get(image_id, [])]
        nearest = [own[other.value].idxmin() for other in sorted(Norm, key=lambda n: n is not norm)] if len(own) else []
        for k, row in enumerate(nearest):
            attack, budget = own.loc[[row], ["attack", "budget"]].to_numpy(float)[0]
            kept = stored_witness(arrays[int(attack)], image_id, budget, budgets[int(attack)])
            if kept is not None and row not in nearest[:k]:
                result[k, i] = torch.tensor(kept).to(result)
    return result


def closest_witnesses(rows: pd.DataFrame, arrays: Arrays, images: Images) -> Tensor:
    """For each image the closest witness of one attack, in the attack's own norm; NaN where it found none."""
    result = _none((len(images),), images)
    own = rows[rows["success"]]
    if own.empty:
        return result
    nearest = own.loc[own.groupby("image_id")[own["norm"].iloc[0]].idxmin()]
    budget_of, budgets = dict(zip(nearest["image_id"], nearest["budget"], strict=True)), own["budget"].unique()
    for i, image_id in enumerate(images.ids):
        if (
            image_id in budget_of
            and (kept := stored_witness(arrays, image_id, budget_of[image_id], budgets)) is not None
        ):
            result[i] = torch.tensor(kept).to(result)
    return result


def _none(count: tuple[int, ...], images: Images) -> Tensor:
    """No witness for so many of such images, (*count, C, H, W)."""
    return torch.full((*count, *images.shape), torch.nan, device=images.device, dtype=images.dtype)
