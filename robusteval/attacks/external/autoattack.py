"""AutoAttack from pyautoattack (Croce & Hein 2020; L1: Croce & Hein 2021), run by its own package as a reference.

A thin adapter. What is different here: too few classes for its DLR loss are refused; the library takes one radius, so
it runs once for each distinct budget; its images exceed small budgets by float32's rounding, for which the judge
would refuse them, so they are brought back into the ball. It seeds itself afresh for each batch: results depend on the
batch.
"""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from pydantic import Field, PositiveInt
from torch import Tensor

from robusteval.attacks.base import Candidates, FixedBudgetAttack
from robusteval.attacks.external.libraries import guarded, or_itself
from robusteval.attacks.search.active import keep
from robusteval.attacks.search.ball import Ball
from robusteval.core.errors import UnsupportedError
from robusteval.core.images import Images
from robusteval.core.norms import BALLS, Norm
from robusteval.core.passes import Passes
from robusteval.core.streams import Streams
from robusteval.models.classifier import Classifier
from robusteval.models.recording import passed_back


class AutoAttack(FixedBudgetAttack):
    """The published ensemble; `iterations` and `queries` below their defaults make it a weaker one."""

    name = "autoattack"
    title = "AutoAttack"
    summary = "APGD-CE, APGD-T, FAB-T and Square (Croce & Hein 2020; pyautoattack)"
    norms = BALLS
    follows = "both"
    batch_independent = False

    classes_needed: ClassVar = {"standard": 4, "plus": 4, "rand": 3}
    """By DLR, which compares the first with the third largest logit, and by its targeted form, with the fourth."""

    version: Literal["standard", "plus", "rand"] = "standard"
    """`plus` adds APGD-DLR, untargeted FAB and restarts; `rand` is for randomised models: APGD-CE and APGD-DLR, each
    gradient the mean of 20."""
    iterations: int = Field(default=100, ge=5)
    """Steps of APGD and FAB."""
    queries: PositiveInt = 5000
    """Queries of Square."""

    def passes_within(self, images: int, classes: int) -> Passes:
        aims = min(9, classes - 1)
        return (Passes.both(self.iterations * (1 + 2 * aims)) + Passes(self.queries)) * images

    @property
    def ranks_on_robustbench(self) -> bool:
        return self == type(self)(norm=self.norm)

    def within(self, classifier: Classifier, images: Images, budget: Tensor, streams: Streams) -> Candidates:
        needed = self.classes_needed[self.version]
        if classifier.num_classes < needed:
            raise UnsupportedError(
                f"expected at least {needed} classes for {self.name} ({self.version}), got {classifier.num_classes}"
            )
        if self.norm is not Norm.LINF and self.version != "rand" and min(images.shape[1:]) < 5:
            shape = "x".join(map(str, images.shape))
            raise UnsupportedError(f"expected at least 5x5 pixels for Square in {self.label}, got {shape}")
        candidates = images.pixels.clone()
        for radius in budget.unique():
            rows = budget == radius
            candidates[rows] = self._found(radius.item(), *keep(rows, classifier, images, streams))
        return Candidates(Ball.around(images.pixels, self.norm, budget).nearest(candidates))

    def _found(self, radius: float, classifier: Classifier, images: Images, streams: Streams) -> Tensor:
        """The library's images for images that share a budget, (M, C, H, W)."""
        with guarded(streams.seed, images.pixels), passed_back(classifier.name):
            from pyautoattack import autoattack

            attack = autoattack.AutoAttack(
                classifier.as_module(),
                norm=self.norm.symbol,
                eps=radius,
                version=self.version,
                seed=streams.seed,
                device=str(images.pixels.device),
            )
            for part in (attack.apgd, attack.apgd_targeted, attack.fab):
                part.n_iter = part.n_iter_orig = self.iterations
            for part in (attack.apgd_targeted, attack.fab):
                part.n_target_classes = min(part.n_target_classes, classifier.num_classes - 1)
            attack.square.n_queries = self.queries
            found, _ = attack.run_standard_evaluation(
                images.pixels.float(), images.labels, batch_size=classifier.batch_size
            )
        return or_itself(torch.as_tensor(found), images.pixels)
