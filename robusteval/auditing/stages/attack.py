"""A stage of an attack: the closest adversarial example of each image, judged, with its row at each budget."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from robusteval.attacks.base import Attack
from robusteval.attacks.judge import Verdict, judge
from robusteval.auditing.stages.base import Context, Evidence, Shard, Stage, unheard
from robusteval.auditing.stages.budget_search import Measured, search_budgets
from robusteval.auditing.stages.certificate import CertificateStage
from robusteval.auditing.stages.frames import array, measurement_rows
from robusteval.auditing.stages.part import Part
from robusteval.auditing.stages.recorded import method_record
from robusteval.core.errors import UserError
from robusteval.core.images import Images
from robusteval.core.methods import Quantity, Step
from robusteval.core.passes import Passes
from robusteval.core.registry import Origin
from robusteval.models.classifier import Classifier
from robusteval.models.meter import Meter
from robusteval.results.files import Arrays
from robusteval.results.records import AttackRecord, Cost
from robusteval.results.run import stored_witness, witness_key
from robusteval.results.tables import WITNESSES_TABLE

NON_FINITE = (
    Quantity(name="non_finite", title="evaluations without a finite answer"),
    Quantity(name="non_finite_gradients", title="gradients with an entry that is not finite"),
)
FOOLED = Quantity(name="fooled_share", title="share of the judge's evaluations that the witness fools")
EVERY_ATTACK = (*NON_FINITE, FOOLED)
"""What every attack measures: the first two of images that had any, the last of models with random outputs."""


@dataclass(frozen=True)
class AttackStage(Stage):
    """`budgets` are the radii that it is given, None alone for a search for the smallest distance, or where it is given
    its `own` to each image, by id; `source` is the index of the model that it attacks, if not the audited one;
    `starts_from` are the stages whose witnesses it improves, if that is what it does."""

    keeps_arrays = True
    always_verified = True
    exact = True
    by_itself: ClassVar[bool] = False
    """Whether what it finds at one budget is no answer for another."""

    name: str
    method: Attack
    origin: Origin
    label: str
    budgets: tuple[float | None, ...]
    source: int | None = None
    source_name: str | None = None
    unavailable: str = ""
    starts_from: tuple[AttackStage | CertificateStage, ...] = ()
    own: Mapping[str, float] | None = None

    def record(self) -> AttackRecord:
        method = self.method
        return method_record(
            AttackRecord,
            self.name,
            method,
            self.origin,
            label=self.label,
            title=method.heading(self.source_name),
            attack=method.heading(),
            quantities=(*method.quantities, *EVERY_ATTACK),
            fixed_budget=method.fixed_budget,
            budgets=self.radii,
            follows=method.follows,
            source=self.source_name,
            starts_from=tuple(stage.name for stage in self.starts_from),
            batch_independent=all(stage.method.batch_independent for stage in (self, *self.starts_from)),
            ensemble=method.ensemble,
            ranks_on_robustbench=method.ranks_on_robustbench,
        )

    def passes(self, images: int, classes: int) -> Passes | None:
        """Of an image that stands at every budget, which are searched by bisection."""
        once = self.method.passes(images, classes)
        attacks = math.ceil(math.log2(len(self.budgets) + 1)) if self.method.fixed_budget else 1
        return None if once is None else once * attacks

    @property
    def may_refute(self) -> bool:
        return any(stage.may_refute for stage in self.starts_from)

    @property
    def radii(self) -> tuple[float, ...]:
        """Those of all images."""
        return tuple(b for b in self.budgets if b is not None)

    def grid(self, images: Images) -> NDArray[np.float64]:
        """The radii of each image, (N, B); NaN for none. Raises UserError for an image without its own."""
        if self.own is None:
            return np.tile(np.array([_at(b) for b in self.budgets]), (len(images), 1))
        if lacking := [image_id for image_id in images.ids if image_id not in self.own]:
            raise UserError(f"expected a budget of its own for each image of {self.name}, got none for {lacking[0]}")
        return np.array([[self.own[image_id]] for image_id in images.ids])

    @property
    def shared(self) -> tuple[float, ...]:
        """The budgets of which a smaller one's witness serves a larger one."""
        return () if self.by_itself else self.radii

    def feed(self, shard: Shard, evidence: Evidence) -> Shard:
        shard = replace(shard, correct=evidence.correct(shard))
        if not self.starts_from:
            return shard
        attacks = [stage.name for stage in self.starts_from]
        return replace(shard, starts=evidence.starts(attacks, self.method.norm, shard))

    def compute(self, context: Context, shard: Shard, step: Step = unheard) -> Part:
        """A misclassified image is its own witness at distance 0. The image of a witness is kept once, under the
        smallest budget that it serves. The judge's evaluations are timed with the attack's, not counted."""
        images, method = shard.images, self.method
        correct, grid = known(shard.correct), self.grid(images)
        source, target = self.models(context, len(images))
        streams = context.streams(self.name, images)
        found = search_budgets(method, source, target, images, correct, grid, streams, shard.starts)
        # Where outputs are random, an image may fool by itself: only what was found is a witness.
        own = ~correct | (found.served < grid.shape[1])
        verdict = judge(target, images, found.examples, method.norm, None).only(own, images.labels)
        frames = [self.rows(images, verdict, radii, found.costs[:, b]) for b, radii in enumerate(grid.T)]
        arrays = {
            witness_key(images.ids[i], grid[i, int(found.served[i])]): array(found.examples[i])
            for i in (correct & verdict.success).nonzero()[:, 0].tolist()
        }
        seconds = found.seconds + target.meter.stopwatch.seconds
        measured = [*found.measured, non_finite(correct, found.non_finite, target.meter)]
        if target.votes > 1:
            measured.append(fooled_share(correct & verdict.success, verdict))
        return self.part(images, frames, arrays, measured, found.costs.sum((1, 2)), seconds)

    def models(self, context: Context, n: int) -> tuple[Classifier, Classifier]:
        """What is attacked, and what is judged, metered for n images."""
        source = context.classifier if self.source is None else context.sources[self.source]
        if self.method.search_dtype is not None:
            source = source.reduced(getattr(torch, self.method.search_dtype))
        return source, context.classifier.metered(n)

    def part(
        self,
        images: Images,
        frames: Sequence[pd.DataFrame],
        arrays: Arrays,
        measured: Sequence[Measured],
        spent: Tensor,
        seconds: float,
    ) -> Part:
        """What a shard leaves: its rows by budget, its witnesses, what the attack measured, and its cost: evaluations
        forward and backward (2,), and seconds of the models."""
        told = [
            measurement_rows(self.name, images.select(m.rows), [(q, 0.0, v) for q, v in m.values.items()]).assign(
                at=np.tile(m.at, len(m.values))
            )
            for m in measured
        ]
        others = pd.concat(told, ignore_index=True).dropna() if told else pd.DataFrame()
        forwards, backwards = spent.tolist()
        cost = Cost(model_seconds=seconds, forwards=forwards, backwards=backwards)
        rows = pd.concat(frames, ignore_index=True)
        return Part(rows, {"measurements": others} if len(others) else {}, arrays, cost)

    def recompute(self, context: Context, shard: Shard, stored: pd.DataFrame, arrays: Arrays) -> Part:
        """The kept witnesses judged again; what the attack measured and cost is not."""
        correct = known(shard.correct).tolist()
        frames = []
        for radii in self.grid(shard.images).T:
            same = stored["budget"].isna() if np.isnan(radii).all() else stored["budget"].isin(radii)
            spent = stored[same].drop_duplicates("image_id").set_index("image_id")
            spent = spent[["forwards", "backwards"]].reindex(list(shard.images.ids))
            candidates = shard.images.pixels.clone()
            for i, image_id in enumerate(shard.images.ids):
                kept = stored_witness(arrays, image_id, radii[i], self.shared)
                if kept is not None and correct[i]:
                    candidates[i] = torch.tensor(kept).to(candidates)
            verdict = judge(context.classifier, shard.images, candidates, self.method.norm, None)
            frames.append(self.rows(shard.images, verdict, radii, torch.tensor(spent.to_numpy(float).T)))
        return Part(pd.concat(frames, ignore_index=True))

    def missing_witnesses(self, shard: Shard, stored: pd.DataFrame, arrays: Arrays) -> Iterator[str]:
        """The images of a shard of which the table claims a witness and none is kept."""
        correct = dict(zip(shard.images.ids, known(shard.correct).tolist(), strict=True))
        claimed = stored[stored["success"]]
        for image_id, budget in zip(claimed["image_id"], claimed["budget"], strict=True):
            if correct.get(image_id) and stored_witness(arrays, image_id, budget, self.shared) is None:
                yield image_id

    def witness_names(self, shard: Shard, stored: pd.DataFrame) -> Iterator[str]:
        correct = dict(zip(shard.images.ids, known(shard.correct).tolist(), strict=True))
        claimed = stored[stored["success"] & stored["image_id"].map(correct).eq(True)]
        if not self.by_itself:
            claimed = claimed.sort_values("budget").drop_duplicates("image_id")
        yield from map(witness_key, claimed["image_id"], claimed["budget"])

    def rows(self, images: Images, verdict: Verdict, radii: NDArray[np.float64], costs: Tensor) -> pd.DataFrame:
        """One row an image: what of a verdict lies within its radius (N,), and the evaluations (2, N) booked to it."""
        reach = torch.tensor(np.nan_to_num(radii, nan=np.inf), device=images.pixels.device)
        own = verdict.within(self.method.norm, reach, images.labels)
        return WITNESSES_TABLE.frame(
            {
                "image_id": images.ids,
                "method": self.name,
                "norm": self.method.norm.value,
                "budget": radii,
                **{k: array(getattr(own, k)) for k in ("success", "l0", "l1", "l2", "linf", "predicted")},
                "forwards": costs[0].numpy(),
                "backwards": costs[1].numpy(),
            }
        )


def non_finite(attacked: Tensor, counts: Tensor, judged: Meter) -> Measured:
    """Of the attacked images (N,) bool that had any: how many answers, to the attack and to the judge, and how many
    gradients, `counts` (2, N), were not finite."""
    every = torch.stack([counts[0] + judged.non_finite_answers, counts[1]])
    rows = (attacked.cpu() & (every > 0).any(0)).nonzero()[:, 0]
    some = torch.where(every > 0, every, torch.nan)[:, rows]
    values = {q.name: c for q, c in zip(NON_FINITE, some, strict=True)}
    return Measured(rows, values, np.zeros(len(rows)))


def fooled_share(won: Tensor, verdict: Verdict) -> Measured:
    """How often the witnesses, of images (N,) bool, fool a model with random outputs."""
    rows = won.nonzero()[:, 0]
    return Measured(rows, {FOOLED.name: verdict.fooled[rows]}, np.zeros(len(rows)))


def _at(budget: float | None) -> float:
    return np.nan if budget is None else budget


def known(correct: Tensor | None) -> Tensor:
    """Which images of a shard are classified correctly. Raises ValueError for one that was not fed."""
    if correct is None:
        raise ValueError("expected a shard that was fed, got one without its clean predictions")
    return correct
