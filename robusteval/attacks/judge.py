"""The judge: the only place that decides that an attack succeeded.

A model with random outputs is judged by the majority of several evaluations, each from a seed of its own, so that the
same images are judged the same again.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from robusteval.core.images import Images
from robusteval.core.norms import BUDGET_TOLERANCE, Norm
from robusteval.models.answers import answered
from robusteval.models.behaviour import seeded
from robusteval.models.classifier import Classifier
from robusteval.models.plain import check_answered


@dataclass(frozen=True)
class Verdict:
    """Of N candidates: success (N,) bool, the class predicted on the witness (the label where there is none),
    (N,), the four distances (N,) float64, infinite for the failed ones; the share of the judge's evaluations that were
    misclassified (N,), 0 or 1 where there is one of them, and of those without a finite answer (N,)."""

    success: Tensor
    predicted: Tensor
    fooled: Tensor
    unanswered: Tensor
    l0: Tensor
    l1: Tensor
    l2: Tensor
    linf: Tensor

    def within(self, norm: Norm, budget: Tensor | float | None, labels: Tensor) -> Verdict:
        """The same verdict on what lies within a budget; everything else has failed."""
        distance: Tensor = getattr(self, norm.value)
        reach = torch.inf if budget is None else budget * (1 + BUDGET_TOLERANCE)
        return self.only(distance <= reach, labels)

    def only(self, rows: Tensor, labels: Tensor) -> Verdict:
        """The same verdict on some of the candidates, `rows` (N,) bool; the others have failed."""
        success = self.success & rows
        failed = {n.value: torch.where(success, getattr(self, n.value), torch.inf) for n in Norm}
        return replace(self, success=success, predicted=torch.where(success, self.predicted, labels), **failed)


@dataclass(frozen=True)
class Decision:
    """What a model decides of N images by `classifier.votes` evaluations: the class most often given (N,), the mean
    logits of those that are finite (N, K), and the shares (N,) of evaluations that give each class (N, K)."""

    predicted: Tensor
    logits: Tensor
    shares: Tensor

    @property
    def unanswered(self) -> Tensor:
        """The share of evaluations without a finite answer, (N,), which are votes for no class."""
        return 1 - self.shares.sum(1).clamp_max(1)

    def fooled(self, labels: Tensor) -> Tensor:
        """The share of evaluations that give another class than `labels` (N,), (N,)."""
        return self.shares.sum(1) - self.shares.gather(1, labels[:, None])[:, 0]


def decide(classifier: Classifier, pixels: Tensor) -> Decision:
    """The decision on images (N, C, H, W): one evaluation of a model whose outputs are not random."""
    if classifier.votes == 1:
        logits = classifier.predict(pixels)
        return Decision(logits.argmax(1), logits, _vote(logits))
    evaluations = []
    for vote in range(classifier.votes):
        with seeded(vote, pixels):
            evaluations.append(classifier.predict(pixels))
    every = torch.stack(evaluations)
    finite = every.isfinite().all(2, keepdim=True)
    mean = torch.where(finite, every, 0.0).sum(0) / finite.sum(0)
    shares = torch.stack([_vote(logits) for logits in evaluations]).sum(0) / classifier.votes
    return Decision(shares.argmax(1), mean, shares)


def finite_decision(classifier: Classifier, images: Images) -> Decision:
    """The decision on the images themselves. Raises UserError where the model has no finite answer to one of them."""
    decision = decide(classifier, images.pixels)
    check_answered(classifier, images, decision.logits)
    return decision


def _vote(logits: Tensor) -> Tensor:
    """Each row's vote for one class, for none where it is not finite, (N, K)."""
    vote = torch.zeros_like(logits).scatter_(1, logits.argmax(1, keepdim=True), 1.0)
    return torch.where(answered(logits)[:, None], vote, 0.0)


def judge(
    classifier: Classifier, images: Images, candidates: Tensor, norm: Norm, budget: Tensor | float | None
) -> Verdict:
    """Re-evaluate candidates (N, C, H, W).

    One is a witness if it lies in the box [0, 1], is finite, lies within `budget` in `norm` (a radius or one an image,
    (N,); relative tolerance BUDGET_TOLERANCE; None for no budget), and is misclassified with finite logits, in more
    than half of the evaluations where the model's outputs are random. Anything else is a failed attack, whatever the
    attack reports: its distances are infinite.
    """
    finite = candidates.isfinite().flatten(1).all(1)
    inside = ((candidates >= 0) & (candidates <= 1)).flatten(1).all(1)
    usable = finite & inside
    evaluated = torch.where(usable[:, None, None, None], candidates, images.pixels)
    decision = decide(classifier, evaluated)
    fooled = decision.fooled(images.labels)
    difference = evaluated.double() - images.pixels.double()
    found = Verdict(
        usable & (fooled > 0.5),
        decision.predicted,
        torch.where(usable, fooled, 0.0),
        torch.where(usable, decision.unanswered, 0.0),
        *(n.size(difference) for n in (Norm.L0, Norm.L1, Norm.L2, Norm.LINF)),
    )
    return found.within(norm, budget, images.labels)
