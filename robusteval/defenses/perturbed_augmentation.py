"""Adversarially augmented training of SGR (section 4.1 and appendix 7.2)."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, PositiveFloat
from torch import Tensor, nn

from robusteval.attacks.long_range import correlated
from robusteval.core.methods import Radius
from robusteval.core.norms import Norm
from robusteval.defenses.ascent import climbed
from robusteval.defenses.base import Batch, Carried, Defense, losses

STEPS = 10
"""Of PGD, each of a fifth of the budget: SGR's table 2."""


class PerturbedAugmentation(Defense):
    """A mixture of clean and perturbed images: (1 - share) * CE(clean) + share * CE(perturbed).

    FGSM and PGD (Linf, from the image itself, as the library that the paper names begins) climb the loss of the class
    that the network predicts, not of the true one, lest the perturbations tell the label. LRC noise is one draw of the
    long-range correlated noise of section 4.3 with a root mean square of `budget`, cut to the box. The paper names
    neither the mixing weight nor the strength of its LRC baseline: a half is taken, and the budget has to be given.
    """

    name = "perturbed-augmentation"
    title = "Augmentation"
    summary = "clean and perturbed images (FGSM, PGD or long-range noise), for the predicted class (SGR, section 4.1)"

    perturbation: Literal["fgsm", "pgd", "lrc"]
    """What perturbs the images."""
    budget: Radius
    """Linf radius in pixel units of fgsm and pgd, root mean square of lrc."""
    share: Annotated[float, Field(gt=0, le=1)] = 0.5
    """Weight of the perturbed images' loss."""
    zeta: PositiveFloat = 8.0
    """Decay length in pixels, of lrc."""

    @property
    def says(self) -> str:
        return f" {self.perturbation.upper()}, budget {self.budget:.4g}"

    def objective(self, network: nn.Module, batch: Batch, state: Carried) -> tuple[Tensor, Carried]:
        logits = network(batch.pixels)
        perturbed = self.perturbed(network, batch, logits.detach().argmax(1))
        clean, moved = losses(logits, batch.labels), losses(network(perturbed), batch.labels)
        return (1 - self.share) * clean.mean() + self.share * moved.mean(), state

    def perturbed(self, network: nn.Module, batch: Batch, predicted: Tensor) -> Tensor:
        """The images (N, C, H, W), perturbed, in the box."""
        x = batch.pixels
        if self.perturbation == "lrc":
            z = correlated(batch.streams(), 1, (x.shape[1], x.shape[2], x.shape[3]), self.zeta)[:, 0]
            return (x + self.budget * z).clamp(0, 1)

        def climb(logits: Tensor) -> Tensor:
            return losses(logits, predicted)

        if self.perturbation == "fgsm":
            return climbed(network, climb, x, x, Norm.LINF, self.budget, 1, self.budget)
        return climbed(network, climb, x, x, Norm.LINF, self.budget, STEPS, self.budget / 5)
