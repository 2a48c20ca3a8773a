"""Transfer: PGD on another model, judged on the audited one.

SGR section 4.4 and table 2: 40 steps of budget/5 on the source. What fools the source need not fool the target,
so every step is taken. The evaluations counted are those of the source; the target is evaluated by the judge only.
"""

from __future__ import annotations

from typing import Self

from pydantic import PositiveInt, model_validator
from torch import Tensor

from robusteval.attacks.base import Candidates
from robusteval.attacks.search.ascent import Ascent
from robusteval.core.images import Images
from robusteval.core.passes import Passes
from robusteval.core.streams import Streams
from robusteval.models.classifier import Classifier


class Transfer(Ascent):
    """PGD-40 on each source model; the last iterate is what is judged."""

    name = "transfer"
    title = "Transfer"
    summary = "PGD-40 on each source model, judged on the target (SGR, section 4.4)"
    follows = "another model"
    on_sources = True

    steps: PositiveInt = 40

    def passes_within(self, images: int, classes: int) -> Passes:
        return Passes.both(self.steps) * images

    @model_validator(mode="after")
    def _budgets_only(self) -> Self:
        if self.minimum_distance:
            raise ValueError("expected budgets for transfer: only the target could say which distance suffices")
        return self

    def within(self, classifier: Classifier, images: Images, budget: Tensor, streams: Streams) -> Candidates:
        ball, x, goal = self.begin(classifier, images, budget, streams)
        for _ in range(self.steps):
            gradient, _, _ = classifier.gradient(x, goal)
            x = self.ascend(ball, x, gradient)
        return Candidates(x)
