"""Regularity of the loss around each image: its gradient, its curvature, how far it departs from its linear model."""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from pydantic import PositiveFloat, PositiveInt, field_validator
from torch import Tensor

from robusteval.certify.extreme_value.departure import Tangent
from robusteval.certify.extreme_value.loss import margin_loss
from robusteval.core.images import Images
from robusteval.core.methods import NormedMethod, Quantity
from robusteval.core.norms import Norm, column
from robusteval.core.passes import Passes
from robusteval.core.streams import Streams
from robusteval.metrics.base import ImageMetric, Measurement
from robusteval.models.classifier import Classifier

RADII: dict[Norm, tuple[float, ...]] = {
    Norm.L1: (2.0, 8.0),
    Norm.L2: (0.5, 1.0),
    Norm.LINF: (2 / 255, 8 / 255),
}
"""The radii at which omega is searched unless the protocol says otherwise; those of L2 are the paper's."""


class Regularity(NormedMethod, ImageMetric):
    """Gradient norm, curvature and modulus of continuity of l = max_{i != c} p_i - p_c, c the label, at each image.

    GradReg table 3 and section 3.1. `gradient_norm` is the dual norm |grad l|_*. Finite differences go the way d of
    steepest ascent in `norm`, scaled to L2 length 1 as in the paper: the gradient in L2, its signs in Linf, its largest
    entry in L1. `gradient_norm_difference` at h is eq. 9, |l(x + h d) - l(x)| / h, times what makes it estimate
    |grad l|_*; it is off by about h / 2 times the curvature. `curvature` at h is the central difference
    (l(x + h d) - 2 l(x) + l(x - h d)) / h^2: the mean of the second derivative along d over [-h, h] with triangular
    weights, kinks of ReLUs included. Its error is of order h^2; without the third image, by the gradient and eq. 9,
    it would be of order h. Rounding adds about 4 u |l| / h^2, u = 6e-8 in float32. Where the gradient is zero so is d:
    the first is 0, the second NaN.

    omega(eps) = sup over |v| <= eps of l(x + v) - l(x) - <v, grad l(x)> (eq. 5) at this image alone; its largest value
    over the images is what table 3 prints. Both estimates are from BELOW: `omega_sampled` at eps, the largest at
    `samples` points uniform in the ball, as in the paper; and `omega_ascent`, after `steps` of ascent from the best of
    these or from where the radius before ended, which finds far more. Both are at least 0 (v = 0) and never fall with
    eps. x + v is clipped to [0, 1]; x + h d is not.

    One gradient and two forwards, and for each radius `samples` + 2 forwards and `steps` gradients.
    """

    name: ClassVar[str] = "regularity"
    title: ClassVar[str] = "Regularity"
    summary: ClassVar[str] = "gradient norm, curvature and modulus of the loss (GradReg, table 3 and section 3.1)"
    quantities = (
        Quantity(name="gradient_norm", title="|grad l|"),
        Quantity(name="gradient_norm_difference", title="|grad l| by finite difference"),
        Quantity(name="curvature", title="curvature along the gradient"),
        Quantity(name="omega_sampled", title="omega, sampled"),
        Quantity(name="omega_ascent", title="omega, by ascent"),
    )

    scores: Literal["probabilities", "logits"] = "probabilities"
    """What the loss is a difference of: softmax outputs, as in the paper, or logits."""
    radii: tuple[PositiveFloat, ...] = ()
    """Ascending radii in pixel units; empty for RADII of the norm."""
    samples: PositiveInt = 20
    """Points in the ball of each radius; the same directions for all."""
    steps: PositiveInt = 5
    """Steps of ascent at each radius."""
    h: PositiveFloat = 0.01
    """The step of the finite differences, L2, pixel units."""

    def passes(self, images: int, classes: int) -> Passes:
        radii = len(self.radii or RADII[self.norm])
        return (Passes.both(1 + radii * self.steps) + Passes(2 + radii * (self.samples + 2))) * images

    @field_validator("radii")
    @classmethod
    def _ascending(cls, radii: tuple[float, ...]) -> tuple[float, ...]:
        if list(radii) != sorted(set(radii)):
            raise ValueError(f"expected distinct ascending radii, got {list(radii)}")
        return radii

    def measure(
        self, classifier: Classifier, images: Images, witnesses: Tensor | None, streams: Streams
    ) -> list[Measurement]:
        tangent = Tangent.at(classifier, images, self.loss)
        size, difference, curvature = finite_differences(tangent, self.norm, self.h)
        radii = self.radii or RADII[self.norm]
        sampled, near = self._sampled(tangent, radii, streams)
        omega = {"omega_sampled": sampled, "omega_ascent": self._climbed(tangent, radii, sampled, near)}
        return [
            Measurement("gradient_norm", 0, size),
            Measurement("gradient_norm_difference", self.h, difference),
            Measurement("curvature", self.h, curvature),
            *(
                Measurement(quantity, eps, values)
                for quantity, found in omega.items()
                for eps, values in zip(radii, found.clamp_min(0).cummax(0).values, strict=True)
            ),
        ]

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """l of logits (N, K) with these settings, (N,) float64."""
        return margin_loss(logits, labels, self.scores)

    def _sampled(self, tangent: Tangent, radii: tuple[float, ...], streams: Streams) -> tuple[Tensor, list[Tensor]]:
        """At each radius the largest departure of `samples` points in its ball, (R, N), and those points."""
        x, best = tangent.pixels, tangent.value.new_full((len(radii), len(tangent.pixels)), -torch.inf)
        near = [x] * len(radii)
        for _ in range(self.samples):
            direction = streams.in_ball(self.norm, *x.shape[1:])
            for k, eps in enumerate(radii):
                near[k], best[k] = _farther(tangent, near[k], best[k], (x + eps * direction).clamp(0, 1))
        return best, near

    def _climbed(self, tangent: Tangent, radii: tuple[float, ...], sampled: Tensor, near: list[Tensor]) -> Tensor:
        """The same after ascent, (R, N)."""
        x, v, before, found = tangent.pixels, torch.zeros_like(tangent.pixels), 1.0, []
        for eps, point, departure in zip(radii, near, sampled, strict=True):
            start, departure = _farther(tangent, point, departure, (x + v * (eps / before)).clamp(0, 1))
            end, reached = tangent.climbed(start, self.norm, eps, self.steps)
            found.append(reached)
            v, before = end - x, eps
        return torch.stack(found)


def finite_differences(tangent: Tangent, norm: Norm, h: float) -> tuple[Tensor, Tensor, Tensor]:
    """|grad l|_*, the same by a forward difference (eq. 9), and the curvature by a central one, along the steepest
    ascent of `norm` scaled to L2 length 1, (N,) each; 0, 0 and NaN where the gradient is zero.

    Both are written with departures from the linear model, whose images are the rounded ones: in float32 x + h d and
    x - h d lie at unequal distances from x, which divided by h^2 would count.
    """
    size, ascent = norm.dual.size(tangent.gradient.double()), norm.steepest(tangent.gradient)
    step = Norm.L2.scale_to(ascent, h)
    ahead, behind = tangent.departure(tangent.pixels + step), tangent.departure(tangent.pixels - step)
    # l(x + h d) - l(x) = ahead + h <grad l, d>, with d = ascent / |ascent|_2 and <grad l, ascent> = |grad l|_*.
    forward = (size + ahead / h * Norm.L2.size(ascent.double())).abs()
    return size, forward, torch.where(size > 0, (ahead + behind) / h**2, torch.nan)


def _farther(tangent: Tangent, near: Tensor, departure: Tensor, other: Tensor) -> tuple[Tensor, Tensor]:
    """Of two images for each image the one that departs more from the linear model, and by how much."""
    there = tangent.departure(other)
    wins = there > departure
    return torch.where(column(wins, near), other, near), torch.where(wins, there, departure)
