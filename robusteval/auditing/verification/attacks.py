"""Attacks run again on some images, or on all, and compared with their rows: what they broke, how far from the image,
and after how many evaluations. A witness can be checked by itself; that an attack found none only so."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass

import pandas as pd
import torch

from robusteval.auditing.engines import Work
from robusteval.auditing.stages.attack import AttackStage
from robusteval.auditing.stages.base import Shard
from robusteval.auditing.verification.again import Recheck
from robusteval.auditing.verification.finding import Finding, held_against, unknown, wrong
from robusteval.auditing.verification.tables import differences
from robusteval.core.errors import UserError
from robusteval.core.images import Images
from robusteval.results.files import read_frame
from robusteval.results.tables import MEASUREMENTS_TABLE

SAMPLED = 3
"""Images, drawn anew for every verification, that attacks are run on again where not all are asked for."""


@dataclass(frozen=True)
class AttacksAgain:
    """The attacks of a run again, on the images named. On the `same_place`, device and version of torch, a row that
    differs is named: first those images alone are attacked, which is cheap, and what then differs is attacked in its
    whole shard as the audit did, since sums of floating-point numbers depend on the batch. Elsewhere iterated attacks
    may part ways, and that is said, not called wrong; but where one breaks an image here of which the run has no
    witness, the claim waits for a machine as the audit's: anybody can write another device into a manifest."""

    recheck: Recheck
    images: frozenset[str]
    same_place: bool

    def stage(self, stage: AttackStage) -> Iterator[Finding]:
        record = self.recheck.run.manifest.stage(stage.name)
        every, count = len(self.images) == self.recheck.run.manifest.data.count, 0
        if not (getattr(record, "batch_independent", True) or every):
            reason = "its results depend on the batch, and not all images are attacked again (--attacks)"
            yield unknown(f"stage {stage.name}: what it found, but for its witnesses: {reason}")
            return
        for shard in self.recheck.shards(stage):
            rows = torch.tensor([image_id in self.images for image_id in shard.images.ids])
            if rows.any():
                count += int(rows.sum())
                yield from self._shard(stage, shard, rows)
        yield held_against(f"stage {stage.name}, its attack run again on {count} images", count)

    def _shard(self, stage: AttackStage, shard: Shard, rows: torch.Tensor) -> Iterator[Finding]:
        whole = stage.feed(shard, self.recheck.evidence).loaded()
        kept = rows.nonzero()[:, 0]
        few = whole.select(kept)
        lines: list[str] = []
        for attacked in [few] if len(few.images) == len(shard.images) else [few, whole]:
            try:
                lines = list(self._differences(stage, attacked, few.images))
            except UserError as error:
                lines = [f"stage {stage.name}: {error}"]
            if not lines:
                return
        asked, where = self._otherwise(stage, shard)
        if not where:
            yield from map(wrong, lines)
        else:
            yield from (unknown(f"{line}; {where}") for line in lines)
            if broken := self._broken_here(stage, few):
                yield Finding(
                    "blocked",
                    f"stage {stage.name}: expected {asked}, since it broke {', '.join(broken)} here, of which the run "
                    "has no witness",
                )

    def _otherwise(self, stage: AttackStage, shard: Shard) -> tuple[str, str]:
        """What it would take to attack as the audit did, and how it was done instead; nothing where it was the same."""
        if not self.same_place:
            where = "on another device or version of torch than the audit's, where it may end elsewhere"
            return "the device and the version of torch of the audit", where
        if not self.recheck.whole:
            rows = read_frame(self.recheck.run.part(stage.name, shard.name))
            if set(rows["image_id"]) != set(shard.images.ids):
                return "--data", "without the other images of its shard, which are not kept: it may end elsewhere"
        return "", ""

    def _broken_here(self, stage: AttackStage, shard: Shard) -> list[str]:
        """The images that the attack breaks here and, as its part says, did not in the run."""
        stored = read_frame(self.recheck.run.part(stage.name, shard.name))
        claimed = set(stored["image_id"][stored["success"]])
        found = Work(stage, self.recheck.context)(shard).rows
        return sorted(set(found["image_id"][found["success"]]) - claimed)

    def _differences(self, stage: AttackStage, shard: Shard, chosen: Images) -> Iterator[str]:
        recheck, where = self.recheck, f"stage {stage.name}, its attack run again"
        part = Work(stage, recheck.context)(shard)
        tables: tuple[tuple[str | None, pd.DataFrame | None], ...] = (
            (None, part.rows),
            ("measurements", part.others.get("measurements")),
        )
        for table, again in tables:
            path = recheck.run.part(stage.name, shard.name, table)
            stored = read_frame(path) if path.is_file() else None
            empty = MEASUREMENTS_TABLE.frame()
            one, other = (_of(empty if rows is None else rows, chosen) for rows in (stored, again))
            yield from differences(f"{where}{f', {table}' if table else ''}", one, other, recheck.tolerance)


def _of(rows: pd.DataFrame, images: Images) -> pd.DataFrame:
    """The rows of some images; measurements in an order that does not depend on the others."""
    own = rows[rows["image_id"].isin(images.ids)]
    if "quantity" in rows:
        own = own.sort_values(["quantity", "at", "image_id"], kind="stable")
    return own.reset_index(drop=True)


def drawn(images: Images, count: int | None) -> frozenset[str]:
    """The images that attacks are run on again: all for None, else some that nobody could foresee."""
    if count is None:
        return frozenset(images.ids)
    return frozenset(random.SystemRandom().sample(images.ids, min(count, len(images))))
