"""Auto: a parameter-free ensemble on AutoAttack's published recipe, 'standard'.

Croce & Hein (2020), section 5: APGD on cross-entropy, APGD on the targeted DLR loss, targeted FAB, Square. For L1,
Croce & Hein (2021): five restarts and five targets of APGD, in shrinking balls. Deviations: every image has its own
random stream; a fooled image leaves every stage in the middle of it; with 2 or 3 classes the margin takes the place of
DLR; in L1 the first of the five restarts keeps to the ball, so that an image that is easily fooled leaves early; APGD
tries all targets with a fifth of the iterations first, after which `finalists` of them get the whole number; FMN
(Pintor et al. 2021) comes before FAB, which goes for the most likely `finalists` alone; and images whose closest
witness lies just outside the budget get a fifth of FAB on all targets, then a second look by APGD (near_miss.py).
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

from robusteval.attacks.apgd import APGD
from robusteval.attacks.base import Attack, Candidates, FixedBudgetAttack
from robusteval.attacks.fab import FAB
from robusteval.attacks.fmn import FMN
from robusteval.attacks.near_miss import all_targets, second_look
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
    """The attacks of the ensemble, in their order: the number that the measurement `stage` names each by, which is not
    their place, its title, and what it follows."""

    CROSS_ENTROPY = 1, "APGD on cross-entropy", "gradients"
    TARGETED = 2, "targeted APGD", "gradients"
    FMN = 5, "FMN", "gradients"
    FAB = 3, "targeted FAB", "gradients"
    """With APGD from where it or FMN ended."""
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
    summary = "APGD-CE, APGD-T, FMN, FAB-T and Square in turn (AutoAttack 'standard', Croce & Hein 2020, and FMN)"
    norms = BALLS
    follows = "both"
    ensemble = tuple(member.stage for member in Member)
    quantities = (Quantity(name="stage", title="broken by", words={stage.value: stage.title for stage in ensemble}),)

    iterations: PositiveInt = 100
    """Steps of APGD, FMN and FAB."""
    targets: PositiveInt = 9
    """Wrong classes, the most likely first, that targeted APGD (in L1 the first five) and FAB move towards."""
    finalists: PositiveInt = 3
    """Of the targets, how many get all the iterations: in APGD those that came closest in a pass with a fifth of them
    for every one, in FAB the most likely ones, before such a pass on images that are near. As many as `targets` for
    all of them in full."""
    queries: PositiveInt = 5000
    """Queries of Square."""

    def passes_within(self, images: int, classes: int) -> Passes:
        few = FAB(norm=self.norm, iterations=self.iterations, targets=min(self.finalists, self.targets))
        free = FMN(norm=self.norm, steps=self.iterations)
        parts = [attack.passes_within(images, classes) for _, attack in self._ascents()]
        parts += [attack.passes(images, classes) for attack in (few, free)]
        return sum(parts, Passes(self.queries) * images)

    def within(self, classifier: Classifier, images: Images, budget: Tensor, streams: Streams) -> Candidates:
        candidates, closest = images.pixels.clone(), images.pixels.clone()
        like = images.pixels[:, 0, 0, 0]
        won, distance = torch.full_like(like, math.nan), torch.full_like(like, math.inf)
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

    def _ascents(self) -> Iterator[tuple[Member, APGD]]:
        """The searches that begin inside the budget, at random points."""
        norm, iterations = self.norm, self.iterations
        l1 = norm is Norm.L1
        targets = min(self.targets, _L1_TARGETS) if l1 else self.targets
        yield Member.CROSS_ENTROPY, APGD(norm=norm, iterations=iterations)
        if l1:
            again = APGD(norm=norm, iterations=iterations, restarts=_L1_RESTARTS - 1, shrinking=True)
            yield Member.CROSS_ENTROPY, again
        targeted = APGD(norm=norm, iterations=iterations, targets=targets, finalists=self.finalists, shrinking=l1)
        yield Member.TARGETED, targeted

    def _stages(self) -> Iterator[tuple[Member, Search]]:
        """The searches in order, each with the member of the ensemble that it belongs to."""
        norm, iterations, finalists = self.norm, self.iterations, self.finalists
        for member, attack in self._ascents():
            yield member, found_by(attack)
        yield Member.FMN, found_by(FMN(norm=norm, steps=iterations))
        yield Member.FAB, nearby(FAB(norm=norm, iterations=iterations, targets=min(finalists, self.targets)))
        if finalists < self.targets:
            yield Member.FAB, partial(all_targets, norm, iterations, self.targets, finalists)
        yield Member.FAB, partial(second_look, norm, iterations)
        yield Member.SQUARE, found_by(Square(norm=norm, queries=self.queries))


def found_by(attack: Attack) -> Search:
    return lambda view, some, radius, own, _: attack.run(view, some, radius, own).examples


def nearby(attack: FAB) -> Search:
    return lambda view, some, radius, own, _: attack.search(view, some, radius, own).examples


def derived(streams: Streams, part: int) -> Streams:
    """Streams of their own for one part of a method: what an earlier part has drawn does not matter."""
    return Streams.for_images(part, "auto", tuple(map(str, streams.seeds)), streams.like)
