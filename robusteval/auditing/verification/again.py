"""Everything that can be computed again: traits of the model, predictions, witnesses, what certificates learn from the
whole set, radii, measurements, and why a stage could not run."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import torch

from robusteval.auditing.engines import Work
from robusteval.auditing.stages.base import Context, Shard, Stage
from robusteval.auditing.stages.frames import read_statistics
from robusteval.auditing.stages.part import Part
from robusteval.auditing.stages.sanity import read_traits
from robusteval.auditing.verification.decisions import raised_radii, vanished
from robusteval.auditing.verification.finding import Finding, claim, held_against, unknown, wrong
from robusteval.auditing.verification.learned import LearnedAgain
from robusteval.auditing.verification.tables import differences
from robusteval.core.errors import RefutedError, UnsupportedError, UserError
from robusteval.core.images import Images
from robusteval.core.progress import Progress
from robusteval.models.behaviour import Traits, not_a_function
from robusteval.results.files import Arrays, read_arrays, read_frame
from robusteval.results.keeping import kept_arrays
from robusteval.results.records import SANITY, Cost, StageRecord
from robusteval.results.run import Run
from robusteval.results.shards import OF_SET

EXACT = 1e-9
"""Relative tolerance for distances and for what is the same on any machine."""


@dataclass(frozen=True)
class Recheck:
    """The stages of a run, run again shard by shard and held against its parts, up to a relative `tolerance`."""

    run: Run
    context: Context
    images: Images
    batches: tuple[Shard, ...]
    tolerance: float
    progress: Progress
    only: frozenset[str] | None = None
    """The names of the shards that are looked at, where not all are."""
    whole: bool = True
    """Whether the images are all those of the run."""
    kept: frozenset[str] | None = None
    """The ids of those whose witnesses are kept; None for all."""

    def on(self, ids: frozenset[str] | None) -> Recheck:
        """Of some of its images alone; of all for None."""
        if ids is None or ids.issuperset(self.images.ids):
            return self
        some = [(s, [i for i, image_id in enumerate(s.images.ids) if image_id in ids]) for s in self.batches]
        batches = tuple(s.select(torch.tensor(rows)) for s, rows in some if rows)
        images = self.images.select(torch.tensor([i in ids for i in self.images.ids], dtype=torch.bool))
        return replace(self, images=images, batches=batches, whole=False)

    def of_shards_with(self, ids: frozenset[str]) -> Recheck:
        """Of the shards that hold one of these images alone."""
        return replace(self, only=frozenset(s.name for s in self.batches if not ids.isdisjoint(s.images.ids)))

    @property
    def looked_at(self) -> Images:
        """The images of these shards."""
        ids = {i for s in self.batches if self.only is None or s.name in self.only for i in s.images.ids}
        return self.images.select(torch.tensor([i in ids for i in self.images.ids], dtype=torch.bool))

    def shards(self, stage: Stage) -> tuple[Shard, ...]:
        """Those of a stage that are looked at: of what is measured on the whole set, all of it."""
        every = stage.shards(self.images, len(self.images)) if stage.of_the_set else self.batches
        return every if self.only is None or stage.of_the_set else tuple(s for s in every if s.name in self.only)

    @property
    def evidence(self) -> LearnedAgain:
        """What earlier stages left, for stages that learn nothing of the whole set."""
        return LearnedAgain(self.run, self.batches)

    def traits(self, stage: Stage) -> tuple[Traits, list[Finding]]:
        """What the sanity stage finds of the model now, whatever the run says, and where that differs."""
        (shard,) = stage.shards(self.images, self.run.manifest.shard_size)
        shard = stage.feed(shard, self.evidence).loaded()
        part = Work(stage, self.context)(shard)
        traits = read_traits(read_statistics(part.others["statistics"]))
        if not self.whole:
            return traits, []
        if traits.repeatable:
            return traits, list(self._held(stage, shard, part))
        stored = self._rows(SANITY, shard.name, "statistics")
        claimed = {} if stored is None else dict(zip(stored["quantity"], stored["value"], strict=True))
        return traits, [
            wrong(f"stage {SANITY}, {name}: is {claimed.get(name)}, expected {float(value)}")
            for name, value in vars(traits).items()
            if claimed.get(name) != float(value)
        ]

    def stage(self, stage: Stage) -> Iterator[Finding]:
        """A stage that is done, computed again from the images and what earlier stages left."""
        self.progress.stage(stage.name, 0, len(self.images))
        evidence, spent, values = self.evidence, Cost(), 0
        stored = self._rows(stage.name, OF_SET, "statistics") if stage.prepares else None
        if stored is not None and len(stored) and not self.whole:
            evidence = replace(evidence, states={stage.name: read_statistics(stored)})
            yield unknown(f"stage {stage.name}: what it learned from the whole set; its radii were computed from that")
        else:
            try:
                evidence, spent, learned = self._learned(stage)
            except UserError as error:
                yield wrong(f"stage {stage.name}: is done, but cannot run: {error}")
                return
            if stored is not None and learned is not None:
                values += stored.size
                where = f"stage {stage.name}, whole set"
                yield from map(wrong, differences(where, stored, learned, self.tolerance))
        for shard in self.shards(stage):
            try:
                fed = stage.feed(shard, evidence).loaded()
                part = self._again(stage, fed)
            except (UserError, RefutedError) as error:
                yield wrong(f"stage {stage.name}: {error}")
                continue
            spent += part.cost
            values += part.rows.size + sum(rows.size for rows in part.others.values())
            yield from self._held(stage, fed, part)
            self.progress.advance(len(shard.images))
        if self.whole and not stage.exact and (self.only is None or stage.of_the_set):
            yield from self._spent(stage.name, spent)
        yield held_against(f"stage {stage.name}, computed again", values)

    def unavailable(self, stage: Stage, record: StageRecord, traits: Traits) -> Iterator[Finding]:
        """A stage that is said to be unavailable: the reason, found again."""
        reason = stage.unavailable
        if not reason and stage.of_functions and traits.lacking:
            reason = str(not_a_function(self.context.classifier.name, traits.lacking))
        if not (reason or self.whole):
            yield unknown(f"stage {stage.name}: why it is unavailable, since that was tried on all images")
            return
        reason = reason or self._reason(stage)
        key = f"stages ({stage.name})"
        if not reason:
            yield claim(f"{key}.status", record.status, "done, since it runs on this model and these images")
        elif reason != record.reason:
            yield claim(f"{key}.reason", record.reason, reason)
        yield held_against(f"stage {stage.name}: why it is unavailable", 1)

    def _reason(self, stage: Stage) -> str:
        """Why a stage cannot run, tried shard by shard; empty where it can."""
        try:
            evidence, _, _ = self._learned(stage)
            for shard in self.shards(stage):
                Work(stage, self.context)(stage.feed(shard, evidence).loaded())
        except UnsupportedError as error:
            return str(error)
        return ""

    def _learned(self, stage: Stage) -> tuple[LearnedAgain, Cost, pd.DataFrame | None]:
        """What a stage takes of the whole set, learned again, what that took, and the statistics where it prepares."""
        evidence, spent = self.evidence.gathered_again(Work(stage, self.context))
        if not stage.prepares:
            return evidence, spent, None
        part = stage.prepare(self.context, self.images, evidence, lambda done, total: None)
        return replace(evidence, states={stage.name: read_statistics(part.rows)}), spent + part.cost, part.rows

    def _again(self, stage: Stage, shard: Shard) -> Part:
        stored = self._rows(stage.name, shard.name)
        if stored is None:
            raise UserError(f"expected the part {shard.name}, got none that can be read")
        return Work(stage, self.context).again(shard, stored, self._arrays(stage, shard.name))

    def _held(self, stage: Stage, shard: Shard, part: Part) -> Iterator[Finding]:
        """The rows, further tables and images of a shard against those that are stored."""
        where = f"stage {stage.name}"
        stored, kept = self._rows(stage.name, shard.name), self._arrays(stage, shard.name)
        if stored is None:
            return
        for image_id in stage.missing_witnesses(shard, stored, kept):
            yield wrong(f"{where}, image {image_id}: the table claims a witness, no image of it is kept")
        yield from map(wrong, differences(where, stored, part.rows, EXACT if stage.exact else self.tolerance))
        protocol, norm = self.run.manifest.protocol, getattr(self.run.manifest.stage(stage.name), "norm", None)
        asked = (protocol.budgets.get(norm, ()), protocol.own_budgets.get(norm, {})) if norm else ((), {})
        yield from map(wrong, raised_radii(where, stored, part.rows, *asked))
        yield from map(wrong, vanished(where, stored, part.rows))
        if stage.exact:
            yield from map(wrong, self._stray(stage, shard, stored, kept))
            return
        for table in ("measurements", "statistics"):
            there, rows = self._rows(stage.name, shard.name, table), part.others.get(table)
            if rows is not None and there is not None:
                yield from map(wrong, differences(f"{where}, {table}", there, rows, self.tolerance))
                yield from map(wrong, vanished(f"{where}, {table}", there, rows))
            elif (rows is None) != (there is None):
                found = "got none" if there is None else "found none again"
                yield wrong(f"{where}: parts/{stage.name}/{shard.name}.{table}.parquet: expected its rows, {found}")
        file = f"witnesses/{stage.name}/{shard.name}.safetensors"
        again = kept_arrays(self.run.manifest.stage(stage.name), part.arrays, self.kept)
        for name in sorted(kept.keys() ^ again.keys()):
            yield wrong(f"{file}: image {name} {'is none of the stage' if name in kept else 'is missing'}")
        for name in sorted(kept.keys() & again.keys()):
            one, other = kept[name], again[name]
            if one.shape != other.shape or not np.allclose(one, other, rtol=self.tolerance, atol=self.tolerance):
                yield wrong(f"{file}: image {name} is not what comes out again")

    def _stray(self, stage: Stage, shard: Shard, stored: pd.DataFrame, kept: Arrays) -> Iterator[str]:
        """The images of a shard of witnesses that no row of it claims."""
        needed = set(stage.witness_names(shard, stored))
        for name in sorted(kept.keys() - needed):
            yield f"witnesses/{stage.name}/{shard.name}.safetensors: image {name} is a witness of no row"

    def _spent(self, name: str, spent: Cost) -> Iterator[Finding]:
        cost = self.run.manifest.stage(name).cost
        for key in ("forwards", "backwards"):
            one, other = getattr(cost, key), getattr(spent, key)
            if not math.isclose(one, other, rel_tol=1e-6, abs_tol=1e-6):
                yield claim(f"stages ({name}).cost.{key}", one, other)

    def _rows(self, stage: str, shard: str, table: str | None = None) -> pd.DataFrame | None:
        path = self.run.part(stage, shard, table)
        try:
            rows = read_frame(path) if path.is_file() else None
        except UserError:
            return None
        if rows is None or self.whole or "image_id" not in rows:
            return rows
        own = next((s.images.ids for s in self.batches if s.name == shard), ())
        return rows[rows["image_id"].isin(own)].reset_index(drop=True)

    def _arrays(self, stage: Stage, shard: str) -> Arrays:
        path = self.run.array_file(stage.name, shard)
        try:
            kept = read_arrays(path) if path.is_file() else {}
        except UserError:
            return {}
        shape, dtype = tuple(self.images.shape), str(self.images.dtype).removeprefix("torch.")
        if stage.exact:
            return {key: a for key, a in kept.items() if a.shape == shape and str(a.dtype) == dtype}
        return kept
