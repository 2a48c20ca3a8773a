"""Closest: a parameter-free ensemble for the smallest distance in any norm, given so many queries an image.

Many short walks along the decision boundary (search/boundary.py) from starts that differ, the best of them continued,
then kicks: noise from where the best ended, and a walk back. Which minimum a walk ends in is decided where it begins.
Near the image most units of a network trained against Linf perturbations are dead, and what the gradient shows there
leads to poor minima; from far inside another class, where they are awake, the way back ends at better ones. On other
networks it is the other way round. So walks begin at the image (near), where some steps of all pixels along the signs
of the gradient end (far), where few long ones do (deep), and at a random image, towards each of the likeliest classes;
where there is no gradient, a step outwards leads to that image. One more begins where FMN ends from the image (slow):
its many small steps find minima near the image that longer ones pass by. Later walks are free to cross into any class,
and in L1 and L2 they solve for the smallest perturbation on the linearised boundary within reach (search/moves.py), in
L1 all do. The last of all, from the closest example, takes steps so fine that it ends at the floor of its minimum.
In L0 the walks are those of L1, and the entries that they change most, moved to the walls of the box, are what counts
(search/filling.py), less those that exchanges of single entries save in the end (search/exchange.py).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum

import torch
from pydantic import Field, PositiveInt
from torch import Tensor

from robusteval.attacks.base import Candidates, MinimumDistanceAttack
from robusteval.attacks.fmn import FMN
from robusteval.attacks.search.active import keep
from robusteval.attacks.search.boundary import Strides, walked_in
from robusteval.attacks.search.exchange import exchange
from robusteval.attacks.search.filling import thin
from robusteval.attacks.search.segment import shrink
from robusteval.attacks.search.targets import likeliest
from robusteval.attacks.search.walks import FILL, Walks, WalkSearch
from robusteval.core.images import Images
from robusteval.core.methods import EnsembleStage, Quantity
from robusteval.core.norms import Norm, column
from robusteval.core.passes import Passes
from robusteval.core.streams import Streams
from robusteval.models.classifier import Classifier

FIRST, SECOND = 0.45, 0.15
"""The shares of the gradients that walks from all starts take, and the best of them continued; kicks get the rest."""
SHORT, LONG = (16, 20), (24, 40)
"""Steps of a first walk, at least, and of a walk after a kick. In L1 they are longer: it is decided one by one
which entries are changed."""
STARTS, SHORTEST = 10, 6
"""For few queries first walks are shorter, but not below SHORTEST steps, so that there are so many: the number of
classes that are tried matters more than how far each walk comes."""
BEST = 5
"""How many walks are continued."""
FEW = 40
"""So few gradients are spent on a single walk, from the image."""
SLOW, MANY = 40, 200
"""The steps of FMN, for so many gradients."""
EXCHANGES = 0.2
"""The share of the gradients that exchanges of single entries take in the end, in L0."""
KICKS = 4.0, 2.0, 1.0, 0.5
"""The L2 sizes of the noise, over that of the perturbation, in turn until one helps."""
PATIENCE = 15
"""An image leaves after so many kicks in a row that did not help."""
REFINE = 6
"""Evaluations of the final search."""
FROM_START = 1.0, 0.05, 0.7, 0.05, (Norm.L0, Norm.L2, Norm.LINF)
LATER = 0.5, 0.005, 0.3, 0.005, (Norm.L0, Norm.LINF)
FINE = 0.03, 0.001, 0.3, 0.005, (Norm.L0, Norm.LINF)
"""The strides of the walks. Solving from the start ends in better minima in L1, in worse ones in L2; in L0, for which
walks of L1 only choose the entries, rescaled ones choose better."""


class Start(Enum):
    """What a walk begins with: the number in the measurement `stage`, its title; the steps outwards and their length;
    how many of the likeliest classes it is made towards, and after how many of them the first and each further one."""

    NEAR = 1, "near start", 0, 0.0, 9, -0.5, 1
    FAR = 2, "far start", 5, 0.1, 9, 0, 1
    DEEP = 3, "deep start", 3, 0.3, 3, 1.2, 3
    RANDOM = 4, "random start", 0, 0.0, 3, 1.7, 3
    KICK = 5, "kick", 0, 0.0, 0, 0, 0
    SLOW = 6, "slow start", 0, 0.0, 0, 0, 0

    def __init__(
        self, code: int, title: str, steps: int, length: float, classes: int, first: float, next_one: float
    ) -> None:
        self.code, self.steps, self.length = code, steps, length
        self.stage = EnsembleStage(value=code, title=title, follows="gradients")
        self.turns = tuple((first + next_one * rank, self, rank) for rank in range(classes))


@dataclass(frozen=True)
class Plan:
    """What the gradients of an image are spent on: walks from `starts`, each towards the class of a rank, of `first`
    steps; the `best` of them continued for `second`, one of them from where `slow` steps of FMN end; `hops` kicks with
    walks of `hop` steps."""

    starts: tuple[tuple[Start, int], ...]
    first: int
    best: int
    second: int
    hops: int
    hop: int
    slow: int = 0

    @classmethod
    def of(cls, gradients: int, targets: int, walk: int, hop: int) -> Plan:
        if gradients < FEW:
            return cls(((Start.NEAR, 0),), gradients, 1, 0, 0, 0)
        slow = SLOW if gradients >= MANY else 0
        gradients -= slow
        turns = sorted((turn for start in Start for turn in start.turns if turn[2] < targets), key=lambda turn: turn[0])
        share = int(FIRST * gradients)
        walk = min(walk, max(SHORTEST, share // STARTS))
        starts = tuple((start, rank) for _, start, rank in turns[: max(1, share // walk)])
        outward = sum(start.steps for start, _ in starts)
        first, best = max(1, (share - outward) // len(starts)), min(BEST, len(starts))
        second = int(SECOND * gradients) // best
        left = gradients - outward - first * len(starts) - second * best
        hops = max(1, round(left / hop))
        return cls(starts, first, best, second, hops, left // hops, slow)

    @property
    def walks(self) -> int:
        return len(self.starts) + self.best * (self.second > 0) + self.hops * (self.hop > 0)

    @property
    def gradients(self) -> int:
        outward = sum(start.steps for start, _ in self.starts)
        return self.slow + outward + self.first * len(self.starts) + self.second * self.best + self.hops * self.hop


class Closest(MinimumDistanceAttack):
    """The measurement `stage` tells what the walk to the closest example began with, NaN where there is none.

    Costs at most `queries` evaluations an image, forward and backward, whatever the number of classes."""

    name = "closest"
    title = "Closest"
    summary = "the smallest distance, by walks along the boundary from many starts, for a number of queries"
    norms = (Norm.L0, Norm.L1, Norm.L2, Norm.LINF)
    ensemble = tuple(start.stage for start in Start)
    quantities = (Quantity(name="stage", title="found from", words={stage.value: stage.title for stage in ensemble}),)

    queries: int = Field(default=2000, ge=40)
    """Evaluations of an image, forward and backward together, at most."""
    targets: PositiveInt = 9
    """How many of the likeliest wrong classes walks are directed to."""

    def passes(self, images: int, classes: int) -> Passes:
        plan = self._plan(classes)
        beside = FILL * plan.walks if self.norm is Norm.L0 else 2
        return (Passes.both(plan.gradients + self._exchanges) + Passes(1 + beside + REFINE)) * images

    def gradients(self, classes: int) -> int:
        return len(self._plan(classes).starts)

    @property
    def _gradients(self) -> int:
        return (self.queries - 3 - REFINE) // 2

    @property
    def _exchanges(self) -> int:
        return int(EXCHANGES * self._gradients) if self.norm is Norm.L0 else 0

    def _plan(self, classes: int) -> Plan:
        gradients, targets = self._gradients - self._exchanges, min(self.targets, classes - 1)
        steps = LONG if self.norm in (Norm.L0, Norm.L1) else SHORT
        plan = Plan.of(gradients, targets, *steps)
        if self.norm is Norm.L0:
            plan = Plan.of(gradients - plan.walks * FILL // 2, targets, *steps)
        return plan

    def closest(self, classifier: Classifier, images: Images, streams: Streams) -> Candidates:
        plan, search = self._plan(classifier.num_classes), WalkSearch(classifier, images, self.norm)
        likely = likeliest(classifier.predict(images.pixels), images.labels, self.targets)
        walks = self._begun(search, plan, likely, streams)
        walks = search.freed(search.walked(walks, Strides(plan.first, *FROM_START)))
        if plan.second:
            walks = self._slowed(classifier, images, walks.nearest(plan.best, len(images)), plan)
            walks = search.walked(walks, Strides(plan.second, *LATER))
        best = self._kicked(search, walks.nearest(1, len(images)), plan, streams)
        found = best.distance.isfinite()
        ends = torch.where(column(found, best.example), best.example, images.pixels)
        if self.norm is Norm.L0:
            ends = exchange(classifier, images, thin(classifier, images, ends, REFINE), self._exchanges)
        else:
            ends = shrink(classifier, images, ends, REFINE)
        return Candidates(ends, {"stage": torch.where(found, best.stage, torch.nan)})

    def _begun(self, search: WalkSearch, plan: Plan, likely: Tensor, streams: Streams) -> Walks:
        """The walks from the starts of the plan, before their first step."""
        codes = torch.tensor([float(start.code) for start, _ in plan.starts]).to(search.images.pixels)
        walks = search.begin(likely[:, [rank for _, rank in plan.starts]], codes)
        drawn = streams.uniform(*search.images.shape)
        random = walks.stage == Start.RANDOM.code
        walks.x[random] = drawn[walks.rows[random]]
        for start in Start:
            own = (walks.stage == start.code).nonzero()[:, 0]
            if start.steps and len(own):
                walks.x[own] = search.outward(walks.select(own), start.steps, start.length, drawn)
        return walks

    def _slowed(self, classifier: Classifier, images: Images, walks: Walks, plan: Plan) -> Walks:
        """The walks with one from where FMN ends in the place of each image's farthest, if it found an example."""
        if not plan.slow:
            return walks
        fmn = FMN(norm=walked_in(self.norm))
        ends, sizes = fmn.descent(classifier, images, images.pixels, plan.slow)
        found = sizes.isfinite()
        last = torch.arange(plan.best - 1, len(walks.rows), plan.best, device=found.device)[found]
        slow = walks.select(last).moved(ends[found], float(Start.SLOW.code))
        return walks.put(last, replace(slow, distance=torch.full_like(slow.distance, torch.inf)))

    def _kicked(self, search: WalkSearch, best: Walks, plan: Plan, streams: Streams) -> Walks:
        """The best walk of each image after all kicks; the last walk begins where it ended."""
        pixels = search.images.pixels
        idle = torch.zeros_like(search.images.labels)
        for hop in range(plan.hops if plan.hop else 0):
            rows = (idle < PATIENCE).nonzero()[:, 0]
            if not len(rows):
                break
            some, centers = keep(rows, best, pixels)
            if hop + 1 < plan.hops:
                size = some.x.new_tensor(KICKS)[idle[rows] % len(KICKS)] * Norm.L2.size(some.x - centers)
                noise = Norm.L2.scale_to(streams.select(rows).normal(*search.images.shape), size)
                some = some.moved((some.x + noise).clamp(0, 1), float(Start.KICK.code))
            tried = search.walked(some, Strides(plan.hop, *(LATER if hop + 1 < plan.hops else FINE)))
            won = tried.distance < best.distance[rows]
            best = best.put(rows[won], tried.select(won))
            idle[rows] = torch.where(won, 0, idle[rows] + 1)
        return best
