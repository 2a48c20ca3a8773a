"""L-bound: the margin of the loss divided by an estimate of its Lipschitz constant."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from robusteval.certify.base import GatheringCertificate, Radii, State
from robusteval.certify.extreme_value.fitted import FittedBound, fit_quantities, looked_up
from robusteval.certify.extreme_value.gev import fit
from robusteval.certify.extreme_value.loss import loss_gradient, rounded_down, slopes
from robusteval.core.images import Images
from robusteval.core.methods import Quantity, Statistic
from robusteval.core.passes import Passes
from robusteval.core.streams import Streams
from robusteval.models.classifier import Classifier
from robusteval.models.gathering import Gathered


class LBound(GatheringCertificate, FittedBound):
    """|v| >= max(l0 - l(x), 0) / L for every adversarial v, if L is a Lipschitz constant of the loss.

    GradReg Proposition 2.2 (L-bound), with l = max_{i != c} f_i - f_c, c the label, l0 = 0, and f the softmax outputs
    unless `scores` says otherwise.
    L is the 1 - p quantile of a GEV distribution fitted to maxima of the dual gradient norm over random batches
    of the data, but at least the largest norm of any image. That is an ESTIMATE: the gradient is read at the
    images only, never between them, so an attack may well come closer than the radius. A batch holds at
    most as many images as the set; with fewer than about ten times `batch` images the same few make most of the
    maxima, nothing can be fitted, and L is the largest norm seen (`fit_code` says so).
    Misclassified images get 0. One gradient an image for L, another for the radius, which is kept as the measurement
    `gradient_norm`.
    """

    name: ClassVar[str] = "l-bound"
    title: ClassVar[str] = "L-bound"
    summary: ClassVar[str] = "margin over an estimated Lipschitz constant (GradReg, Proposition 2.2)"
    quantities = (
        Quantity(name="maximum", title="largest |grad l| of a batch"),
        *fit_quantities(),
        Quantity(name="L", title="Lipschitz constant L"),
        Quantity(name="gradient_norm", title="|grad l|"),
    )

    def passes(self, images: int, classes: int) -> Passes:
        return Passes.both(2) * images

    def gather(self, classifier: Classifier, images: Images, witnesses: Tensor | None, streams: Streams) -> Gathered:
        """`slope` (N,): the dual norm of each image's gradient."""
        gradients = loss_gradient(classifier, images.pixels, images.labels, self.loss)
        return {"slope": torch.cat([self.norm.dual.size(gradient.double()) for gradient, _, _ in gradients])}

    def learned(self, gathered: Gathered, streams: Streams) -> State:
        slope = gathered["slope"]
        size = min(self.batch, len(slope))
        maxima = slope[self.draws(len(slope), size, streams)].amax(1).cpu().numpy()
        gev = fit(maxima, self.p, float(slope.max()))
        return (
            *(Statistic("maximum", i, float(value)) for i, value in enumerate(maxima)),
            *self.fit_rows("", 0, maxima, gev, streams.seed),
            Statistic("L", 0, gev.estimate),
        )

    def radii(self, classifier: Classifier, images: Images, state: State, streams: Streams) -> Radii:
        here = slopes(classifier, images, self.norm, self.loss)
        ((_, constant),) = looked_up(state, "L")
        # L = 0 says that the loss is constant: nothing in the box is adversarial, but no number says that.
        radius = here.margin / constant if constant > 0 else torch.zeros_like(here.margin)
        none = torch.zeros_like(here.predicted, dtype=torch.bool)
        return Radii(rounded_down(radius), here.predicted, none, (("gradient_norm", 0, here.slope),))
