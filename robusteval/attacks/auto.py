"""Auto: a parameter-free ensemble on AutoAttack's published recipe, 'standard'.

Croce & Hein (2020), section 5: APGD on cross-entropy, APGD on the targeted DLR loss, targeted FAB, Square. For L1,
Croce & Hein (2021): five restarts and five targets of APGD, in shrinking balls. Deviations: every image has its own
random stream; a fooled image leaves every stage in the middle of it; with 2 or 3 classes the margin takes the place of
DLR; in L1 the first of the five restarts keeps to the ball, so that an image that is easily fooled leaves early; and
all targets are tried with a fifth of the iterations first, after which `finalists` of them get the whole number.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from pydantic import PositiveInt
from torch import Tensor

from robusteval.attacks.active import keep
from robusteval.attacks.apgd import APGD, QUICK
from robusteval.attacks.ball import Ball
from robusteval.attacks.base import Attack, Candidates, FixedBudgetAttack
from robusteval.attacks.fab import FAB
from robusteval.attacks.square import Square
from robusteval.classifier import Classifier
from robusteval.images import Images
from robusteval.norms import BALLS, Norm
from robusteval.streams import Streams

_L1_RESTARTS, _L1_TARGETS = 5, 5


class Auto(FixedBudgetAttack):
    """The measurement `stage` tells which one fooled an image: 1 APGD on cross-entropy, 2 targeted APGD, 3 targeted
    FAB, 4 Square, NaN none."""

    name = "auto"
    summary = "APGD-CE, APGD-T, FAB-T and Square one after another (AutoAttack 'standard', Croce & Hein 2020)"
    norms = BALLS

    iterations: PositiveInt = 100
    """Steps of APGD and FAB."""
    targets: PositiveInt = 9
    """Wrong classes, the most likely first, that targeted APGD (in L1 the first five) and FAB move towards."""
    finalists: PositiveInt = 3
    """Of the targets, how many get all the iterations, after a pass with a fifth of them for every one: in APGD those
    that came closest in it, in FAB the most likely ones. As many as `targets` for the published recipe as it is."""
    queries: PositiveInt = 5000
    """Queries of Square."""

    def within(self, classifier: Classifier, images: Images, budget: Tensor, streams: Streams) -> Candidates:
        pictures = images.pixels.clone()
        won = torch.full_like(budget, math.nan)
        rows = torch.arange(len(images), device=pictures.device)
        for k, (stage, attack) in enumerate(self._attacks()):
            if not len(rows):
                break
            view, some, radius, own = keep(rows, classifier, images, budget, derived(streams, k))
            search = attack.search if isinstance(attack, FAB) else attack.run
            found = search(view, some, radius, own).pictures
            found = Ball.around(some.pixels, self.norm, radius).nearest(found)
            fooled = (view.predict(found).argmax(1) != some.labels) & found.isfinite().flatten(1).all(1)
            pictures[rows[fooled]], won[rows[fooled]] = found[fooled], float(stage)
            rows = rows[~fooled]
        return Candidates(pictures, {"stage": won})

    def _attacks(self) -> Iterator[tuple[int, Attack]]:
        """The attacks in order, each with the number of its stage."""
        norm, iterations, finalists = self.norm, self.iterations, self.finalists
        yield 1, APGD(norm=norm, iterations=iterations)
        if norm is Norm.L1:
            yield 1, APGD(norm=norm, iterations=iterations, restarts=_L1_RESTARTS - 1, shrinking=True)
        l1 = norm is Norm.L1
        targets = min(self.targets, _L1_TARGETS) if l1 else self.targets
        yield 2, APGD(norm=norm, iterations=iterations, targets=targets, finalists=finalists, shrinking=l1)
        if finalists < self.targets:
            yield 3, FAB(norm=norm, iterations=max(1, iterations // QUICK), targets=self.targets)
        yield 3, FAB(norm=norm, iterations=iterations, targets=min(finalists, self.targets))
        yield 4, Square(norm=norm, queries=self.queries)


def derived(streams: Streams, part: int) -> Streams:
    """Streams of their own for one part of a method: what an earlier part has drawn does not matter."""
    return Streams.for_images(part, "auto", tuple(map(str, streams.seeds)), streams.like)
