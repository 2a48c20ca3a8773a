"""Transfer: PGD on another model, judged on the audited one.

SGR section 4.4 and table 2: 40 steps of budget/5 on the source. What fools the source need not fool the target,
so every step is taken. The evaluations counted are those of the source; the target is evaluated by the judge only.
"""

from __future__ import annotations

from pydantic import PositiveInt
from torch import Tensor

from robusteval.attacks.losses import objective
from robusteval.attacks.pgd import PGD
from robusteval.classifier import Classifier
from robusteval.images import Images
from robusteval.streams import Streams


class Transfer(PGD):
    """PGD-40 on each source model; the last iterate is what is judged. `restarts` is not used: the target is not
    asked in between."""

    name = "transfer"
    summary = "PGD-40 on each source model, judged on the target (SGR, section 4.4)"
    on_sources = True

    steps: PositiveInt = 40

    def run(self, classifier: Classifier, images: Images, budget: float | None, streams: Streams) -> Tensor:
        assert budget is not None
        ball, x, targets = self.begin(classifier, images, budget, streams)
        for _ in range(self.steps):
            gradient, _, _ = classifier.gradient(x, objective(self.loss, images.labels, targets))
            x = self.ascend(ball, x, gradient)
        return x
