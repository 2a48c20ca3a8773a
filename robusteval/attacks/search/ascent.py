"""What PGD and its transfer share: the settings of projected gradient ascent, its start, its goal, its step."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import NonNegativeInt, PositiveFloat, PositiveInt, model_validator
from torch import Tensor

from robusteval.attacks.base import FixedBudgetAttack
from robusteval.attacks.search.ball import Ball
from robusteval.attacks.search.losses import LOGIT_ORDERS, Goal, Loss
from robusteval.attacks.search.targets import Target, choose
from robusteval.core.errors import nearest
from robusteval.core.images import Images
from robusteval.core.norms import BALLS
from robusteval.core.streams import Streams
from robusteval.models.classifier import Classifier

PRESETS: dict[str, dict[str, Any]] = {
    "sgr": {"steps": 10, "step": 0.2, "labels": "predicted"},
    "sgr-transfer": {"steps": 40, "step": 0.2, "labels": "predicted"},
    "gradreg": {"steps": 7, "step": 0.25},
    "smoothkernels": {"steps": 40, "step": 1 / 30, "random_start": False},
}
"""SGR, table 2: steps of budget/5, 10 white-box and 40 for transfer, away from the predicted label. GradReg: 7 steps as
Madry et al. (2018) train, of 2/255 at 8/255. SmoothKernels and Moments take foolbox's defaults: in its version 2, 40
steps of 0.01 at 0.3 from the image itself; a random start is an attack of its own there."""


class Ascent(FixedBudgetAttack):
    """Projected gradient ascent on one model; settings that are given come before those of the preset."""

    norms = BALLS

    preset: str | None = None
    """The setting of a paper: sgr, sgr-transfer, gradreg or smoothkernels."""
    steps: PositiveInt = 20
    step: PositiveFloat = 0.2
    """Step size relative to the budget."""
    random_start: bool = True
    """From a point uniform in the ball; else from the image."""
    loss: Loss = Loss.CROSS_ENTROPY
    labels: Literal["true", "predicted"] = "true"
    """The class to get away from: that of the data, or what this model predicts, which leaks no label (SGR)."""
    target: Target | NonNegativeInt | None = None
    """The class to move towards: random (T-PGD of SGR), second-best, least-likely, or a given one."""

    @model_validator(mode="before")
    @classmethod
    def _fill_in(cls, settings: Any) -> Any:
        if isinstance(settings, dict) and settings.get("preset") is not None:
            known = PRESETS.get(settings["preset"])
            if known is None:
                hint = nearest(str(settings["preset"]), PRESETS)
                raise ValueError(f"expected a known preset, got '{settings['preset']}' ({hint})")
            return known | settings
        return settings

    @model_validator(mode="after")
    def _moves(self) -> Self:
        if self.loss in LOGIT_ORDERS and not self.random_start:
            raise ValueError(f"expected a random start for {self.loss}: its gradient vanishes at the image itself")
        if self.loss in LOGIT_ORDERS and self.target is not None:
            raise ValueError(f"expected no target for {self.loss}, got '{self.target}'")
        return self

    @property
    def says(self) -> str:
        return f"{'' if self.target is None else f', {self.target} target'}{super().says}"

    def begin(
        self, classifier: Classifier, images: Images, budget: Tensor, streams: Streams
    ) -> tuple[Ball, Tensor, Goal]:
        """The ball, the start in it, and what to climb."""
        ball = Ball.around(images.pixels, self.norm, budget)
        start = images.pixels
        if self.random_start:
            start = ball.nearest(start + ball.step(1.0, streams.in_ball(self.norm, *images.shape)))
        return ball, start, self.goal(classifier, images, streams)

    def goal(self, classifier: Classifier, images: Images, streams: Streams) -> Goal:
        """One more forward where it depends on the clean logits."""
        ranked = self.target in (Target.SECOND_BEST, Target.LEAST_LIKELY)
        needed = ranked or self.labels == "predicted" or self.loss in LOGIT_ORDERS
        clean = classifier.predict(images.pixels) if needed else None
        labels = images.labels if clean is None or self.labels == "true" else clean.argmax(1)
        if self.target is None:
            return Goal(self.loss, labels, clean=clean if self.loss in LOGIT_ORDERS else None)
        return Goal(self.loss, labels, choose(self.target, labels, classifier.num_classes, clean, streams))

    def end(self, classifier: Classifier, images: Images, budget: Tensor, streams: Streams) -> Tensor:
        """Where one ascent ends, (N, C, H, W): of every image after all steps, whatever is misclassified on the way or
        from the first. No attack's result: it may be classified correctly."""
        ball, x, goal = self.begin(classifier, images, budget, streams)
        for _ in range(self.steps):
            x = self.ascend(ball, x, classifier.gradient(x, goal)[0])
        return x

    def ascend(self, ball: Ball, x: Tensor, gradient: Tensor) -> Tensor:
        """One step: OpNorm Eq. 15."""
        return ball.climb(x, gradient, self.step)
