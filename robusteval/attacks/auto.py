"""Auto: a parameter-free ensemble on AutoAttack's published recipe, 'standard'.

Croce & Hein (2020), section 5: APGD on cross-entropy, APGD on the targeted DLR loss, targeted FAB, Square. For L1,
Croce & Hein (2021): five restarts and five targets of APGD, in shrinking balls. Deviations: every image has its own
random stream; a fooled image leaves every stage in the middle of it; with 2 or 3 classes the margin takes the place of
DLR; in L1 the first of the five restarts keeps to the ball, so that an image that is easily fooled leaves early; all
targets are tried with a fifth of the iterations first, after which `finalists` of them get the whole number; and images
with a witness of FAB just outside the budget get a second look by APGD (near_miss.py).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from enum import Enum
from functools import partial
from typing import TypeAlias

import torch
from pydantic import PositiveInt
from torch import Tensor

from robusteval.attacks.apgd import APGD, QUICK
from robusteval.attacks.base import Attack, Candidates, FixedBudgetAttack
from robusteval.attacks.fab import FAB
from robusteval.attacks.near_miss import second_look
from robusteval.attacks.search.active import keep
from robusteval.attacks.search.ball import Ball
from robusteval.attacks.square import Square
from robusteval.core.images import Images
from robusteval.core.methods import EnsembleStage, Quantity
from robusteval.core.norms import BALLS, Norm
from robusteval.core.passes import Passes
from robusteval.core.streams import Streams
from robusteval.models.classifier import Classifier

_L1_RESTARTS, _L1_TARGETS = 5, 5

Search: TypeAlias = Callable[[Classifier, Images, Tensor, Streams, Tensor], Tensor]
"""From a view, its images, their radii, their streams and the closest witnesses so far to images."""


class Member(Enum):
    """The attacks of the ensemble, in their order: the number that the measurement `stage` names each by, its title,
    and what it follows."""

    CROSS_ENTROPY = 1, "APGD on cross-entropy", "gradients"
    TARGETED = 2, "targeted APGD", "gradients"
    FAB = 3, "targeted FAB", "gradients"
    """With APGD from where it ended."""
    SQUARE = 4, "Square", "outputs"

    @property
    def stage(self) -> EnsembleStage:
        value, title, follows = self.value
        return EnsembleStage(value=value, title=title, follows=follows)


class Auto(FixedBudgetAttack):
    """The measurement `stage` tells which `Member` broke an image, NaN none. Given many images, it attacks them in
    batches of the classifier's size."""

    name = "auto"
    title = "Auto"
    summary = "APGD-CE, APGD-T, FAB-T and Square one after another (AutoAttack 'standard', Croce & Hein 2020)"
    norms = BALLS
    follows = "both"
    ensemble = tuple(member.stage for member in Member)
    quantities = (Quantity(name="stage", title="broken by", words={stage.value: stage.title for stage in ensemble}),)

    iterations: PositiveInt = 100
    """Steps of APGD and FAB."""
    targets: PositiveInt = 9
    """Wrong classes, the most likely first, that targeted APGD (in L1 the first five) and FAB move towards."""
    finalists: PositiveInt = 3
    """Of the targets, how many get all the iterations, after a pass with a fifth of them for every one: in APGD those
    that came closest in it, in FAB the most likely ones. As many as `targets` for the published recipe as it is."""
    queries: PositiveInt = 5000
    """Queries of Square."""

    def passes_within(self, images: int, classes: int) -> Passes:
        first = APGD(norm=self.norm, iterations=self.iterations)
        targeted = APGD(norm=self.norm, iterations=self.iterations, targets=self.targets, finalists=self.finalists)
        few = FAB(norm=self.norm, iterations=self.iterations, targets=min(self.finalists, self.targets))
        quick = FAB(norm=self.norm, iterations=max(1, self.iterations // QUICK), targets=self.targets)
        parts = [attack.passes_within(images, classes) for attack in (first, targeted)]
        parts += [attack.passes(images, classes) for attack in (few, quick)]
        return sum(parts, Passes(self.queries) * images)

    def within(self, classifier: Classifier, images: Images, budget: Tensor, streams: Streams) -> Candidates:
        candidates, closest = images.pixels.clone(), images.pixels.clone()
        won, distance = torch.full_like(budget, math.nan), torch.full_like(budget, math.inf)
        standing = torch.ones_like(images.labels, dtype=torch.bool)
        for k, (member, search) in enumerate(self._stages()):
            # Those that still stand share full batches: far fewer of them are left for the longest stages.
            for rows in filter(len, standing.nonzero()[:, 0].split(classifier.batch_size)):
                view, some, radius, own = keep(rows, classifier, images, budget, derived(streams, k))
                found = search(view, some, radius, own, closest[rows])
                inner = Ball.around(some.pixels, self.norm, radius).nearest(found)
                fooled = view.misclassifies(inner, some.labels)
                candidates[rows[fooled]], won[rows[fooled]] = inner[fooled], float(member.stage.value)
                standing[rows[fooled]] = False
                size = self.norm.size(found - some.pixels)
                closer = view.misclassifies(found, some.labels) & (size < distance[rows])
                closest[rows[closer]], distance[rows[closer]] = found[closer], size[closer]
        return Candidates(candidates, {"stage": won})

    def _stages(self) -> Iterator[tuple[Member, Search]]:
        """The searches in order, each with the member of the ensemble that it belongs to."""
        norm, iterations, finalists = self.norm, self.iterations, self.finalists
        l1 = norm is Norm.L1
        targets = min(self.targets, _L1_TARGETS) if l1 else self.targets
        yield Member.CROSS_ENTROPY, within_budget(APGD(norm=norm, iterations=iterations))
        if l1:
            again = APGD(norm=norm, iterations=iterations, restarts=_L1_RESTARTS - 1, shrinking=True)
            yield Member.CROSS_ENTROPY, within_budget(again)
        targeted = APGD(norm=norm, iterations=iterations, targets=targets, finalists=finalists, shrinking=l1)
        yield Member.TARGETED, within_budget(targeted)
        if finalists < self.targets:
            quick = FAB(norm=norm, iterations=max(1, iterations // QUICK), targets=self.targets)
            yield Member.FAB, nearby(quick)
        yield Member.FAB, nearby(FAB(norm=norm, iterations=iterations, targets=min(finalists, self.targets)))
        yield Member.FAB, partial(second_look, norm, iterations)
        yield Member.SQUARE, within_budget(Square(norm=norm, queries=self.queries))


def within_budget(attack: Attack) -> Search:
    return lambda view, some, radius, own, _: attack.run(view, some, radius, own).examples


def nearby(attack: FAB) -> Search:
    return lambda view, some, radius, own, _: attack.search(view, some, radius, own).examples


def derived(streams: Streams, part: int) -> Streams:
    """Streams of their own for one part of a method: what an earlier part has drawn does not matter."""
    return Streams.for_images(part, "auto", tuple(map(str, streams.seeds)), streams.like)
