"""Stage: one method over all images, shard by shard; what it is given, and what it gives."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar, Protocol

import pandas as pd
import torch
from torch import Tensor

from robusteval.attacks.search.active import keep
from robusteval.auditing.stages.part import Part
from robusteval.certify.base import State
from robusteval.core.images import Images
from robusteval.core.methods import Step
from robusteval.core.norms import Norm
from robusteval.core.passes import Passes
from robusteval.core.stored import StoredPixels
from robusteval.core.streams import Streams
from robusteval.models.classifier import Classifier
from robusteval.results.files import Arrays
from robusteval.results.records import StageRecord

if TYPE_CHECKING:
    from robusteval.auditing.stages.gather import GatherStage


@dataclass(frozen=True)
class Context:
    """What every stage of an audit shares."""

    classifier: Classifier
    """As it is served: what the sanity stage found of it decides how."""
    sources: Sequence[Classifier]
    seed: int
    opened: Classifier
    """The same as it was opened, for the stage that finds that."""
    batch: int | None = None
    """How many images of a shard are computed together, of however many at a time the models are given; None for all:
    some methods go on until all of a batch are done."""

    def with_less_memory(self) -> Context | None:
        """The same with half as many images at a time in every model; None where it is one already."""
        if self.opened.at_once == 1:
            return None
        size = max(1, (self.opened.at_once or self.opened.batch_size) // 2)
        few = [replace(m, batch_size=size, at_once=size) for m in (self.classifier, self.opened, *self.sources)]
        return replace(self, classifier=few[0], opened=few[1], sources=tuple(few[2:]))

    def streams(self, stage: str, images: Images) -> Streams:
        """The random streams of a stage, one an image."""
        return Streams.for_images(self.seed, stage, images.ids, images.pixels)

    def set_streams(self, stage: str, images: Images) -> Streams:
        """The one random stream of a stage for the whole set."""
        return Streams.for_set(self.seed, stage, torch.empty(0, device=images.device, dtype=images.dtype))


@dataclass(frozen=True)
class Shard:
    """A block of images that is computed, written and resumed as one, and what earlier stages found about them, as far
    as its stage asks for it: which are classified correctly (N,) bool, their closest witnesses by one attack
    (N, C, H, W) with NaN where it found none, what a certificate learnt from the whole set, the margins of the images
    themselves (N,) float64, shards of other stages to be computed again, the witnesses of several attacks that
    another starts from, (S, N, C, H, W) with NaN where there is none, what was gathered of the whole set, and the
    witnesses of all images as they lie in the run, for a stage that reads these and the images itself."""

    name: str
    images: Images
    correct: Tensor | None = None
    witnesses: Tensor | None = None
    state: State = ()
    margins: Tensor | None = None
    again: tuple[Computed, ...] = ()
    starts: Tensor | None = None
    gathered: Arrays | None = None
    stored_witnesses: StoredPixels | None = None

    def loaded(self) -> Shard:
        """The same with its images in memory, unless its stage reads them itself."""
        return self if self.stored_witnesses is not None else replace(self, images=self.images.loaded())

    def select(self, rows: Tensor) -> Shard:
        """Some of its images, and what is known of these."""
        known = keep(rows, self.images, self.correct, self.witnesses, self.margins)
        starts = None if self.starts is None else self.starts[:, rows]
        return replace(self, images=known[0], correct=known[1], witnesses=known[2], margins=known[3], starts=starts)


class Evidence(Protocol):
    """What earlier stages left."""

    def correct(self, shard: Shard) -> Tensor:
        """Which images of a shard are classified correctly, (N,) bool."""

    def witnesses(self, attack: str, shards: Sequence[Shard]) -> Tensor:
        """The closest witnesses of the images of some shards by the stage of an attack, in its own norm, (N, C, H, W);
        NaN where it found none. Raises UnsupportedError if that stage did not run."""

    def stored_witnesses(self, attack: str) -> StoredPixels:
        """The same of all images, (N, C, H, W), read where they are asked for. Raises UnsupportedError."""

    def gathered(self, stage: GatherStage) -> Arrays:
        """What was gathered of the whole set."""

    def starts(self, attacks: Sequence[str], norm: Norm, shard: Shard) -> Tensor:
        """Of the images of a shard the closest witnesses by some stages that find any, in `norm` first and then in
        each other norm, (4, N, C, H, W); NaN where there is none, or it is one of those before. Raises UnsupportedError
        if none of these stages ran."""

    def margins(self, shard: Shard) -> Tensor:
        """The logit margins of the images of a shard, (N,) float64, as the clean stage found them."""

    def state(self, stage: str) -> State:
        """What a certificate learnt from the whole set."""

    def seconds(self, stage: str, shard: str) -> float | None:
        """How long a shard of a stage took; None where there is none that could be computed again."""

    def rows(self, stage: str, shard: str) -> pd.DataFrame | None:
        """The main table of a shard; None where it was computed in other circumstances than those of now: by an earlier
        process, which may have been on another machine, or with more images at a time."""

    def shards(self) -> Sequence[Shard]:
        """The images, cut into batches."""


def unheard(done: int, total: int) -> None:
    """No progress shown inside a shard."""


class Stage(ABC):
    """One method over all images. Frozen and picklable: `compute` can run in another process."""

    prepares: ClassVar[bool] = False
    """Whether `prepare` has something to learn from the whole set before the first shard."""
    always_verified: ClassVar[bool] = False
    """Whether a verification checks it even where nothing is computed again."""

    essential: ClassVar[bool] = False
    """Whether the others rest on it: what stops it ends the audit."""
    of_functions: ClassVar[bool] = False
    """Whether what it says holds only of a model whose outputs are a function of the image alone."""
    of_the_set: ClassVar[bool] = False
    """Whether all images are one shard, and computed together."""
    reads_itself: ClassVar[bool] = False
    """Whether it reads images and witnesses itself, and so is computed by the process that reads the run."""
    exact: ClassVar[bool] = False
    """Whether what a verification finds again is the same on any machine, whose arithmetic may differ."""

    name: str
    unavailable: str
    """Why it cannot run at all; empty if it can."""

    def passes(self, images: int, classes: int) -> Passes | None:
        """The evaluations that it is expected to take (Method.passes); None where nobody can say."""
        return None

    @abstractmethod
    def record(self) -> StageRecord:
        """What the manifest says of it before it ran."""

    @property
    def keeps_arrays(self) -> bool:
        """Whether every shard leaves a file of arrays, an empty one too."""
        return False

    @property
    def may_refute(self) -> bool:
        """Whether a witness may lie inside a proven radius from this stage on: of a proof, or of what comes behind."""
        return False

    @property
    def gatherer(self) -> GatherStage | None:
        """The stage that gathers, shard by shard, what this one learns from the whole set; None where it needs none."""
        return None

    def shards(self, images: Images, size: int) -> tuple[Shard, ...]:
        """What is written and resumed as one: so many images in the order of their ids, or all of them."""
        return cut(images, len(images) if self.of_the_set else size)

    def batches(self, shard: Shard, size: int) -> Iterator[Shard]:
        """What is computed together: so many images of a shard that was fed, or all of them."""
        if self.of_the_set or len(shard.images) <= size:
            yield shard
        else:
            for rows in torch.arange(len(shard.images)).split(size):
                yield shard.select(rows)

    def feed(self, shard: Shard, evidence: Evidence) -> Shard:
        """The shard with what the stage needs of earlier ones, and none but the images that it needs, which are loaded
        afterwards. Raises UnsupportedError if that is not there."""
        return shard

    def prepare(self, context: Context, images: Images, evidence: Evidence, step: Step) -> Part:
        """The statistics of the whole set that `compute` needs, for stages that prepare."""
        raise NotImplementedError

    @abstractmethod
    def compute(self, context: Context, shard: Shard, step: Step = unheard) -> Part:
        """The part of one shard, from nothing but the arguments. `step` moves a bar where an engine can show one."""

    def joined(self, parts: Sequence[Part]) -> Part:
        """The part of a shard, of those of its batches."""
        return Part.of_batches(parts)

    def missing_witnesses(self, shard: Shard, stored: pd.DataFrame, arrays: Arrays) -> Iterator[str]:
        """The images of a shard of which the rows claim a witness and none is kept."""
        yield from ()

    def witness_names(self, shard: Shard, stored: pd.DataFrame) -> Iterator[str]:
        """The names of the images that the rows of a shard rest on, in its file of arrays."""
        yield from ()

    def recompute(self, context: Context, shard: Shard, stored: pd.DataFrame, arrays: Arrays) -> Part:
        """The part again, to be held against the stored rows and their arrays."""
        return self.compute(context, shard)


@dataclass(frozen=True)
class Computed:
    """A shard that a stage has computed, as it was fed, and its rows; None where they are of other circumstances."""

    stage: Stage
    shard: Shard
    rows: pd.DataFrame | None


def cut(images: Images, size: int) -> tuple[Shard, ...]:
    """The images in the order of their ids, so many in each shard: the order of the data changes nothing."""
    blocks = torch.arange(len(images)).split(size)
    ordered = images.by_id()
    return tuple(Shard(f"{i:05d}", ordered.select(rows)) for i, rows in enumerate(blocks))
