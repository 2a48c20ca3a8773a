"""omega-bound: the local gradient, and an estimate of how far the loss departs from its linear model."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import torch
from pydantic import PositiveFloat, field_validator
from torch import Tensor

from robusteval.certify.base import Radii, State, Statistic, Step
from robusteval.certify.fitted import FittedBound, fit_rows, looked_up
from robusteval.certify.gev import fit
from robusteval.certify.loss import loss_at, loss_gradient, rounded_down, slopes
from robusteval.classifier import Classifier
from robusteval.images import Images
from robusteval.norms import Norm, flat
from robusteval.streams import Streams

GRIDS: dict[Norm, tuple[float, ...]] = {
    Norm.L1: (0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0),
    Norm.L2: (0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.2, 1.6),
    Norm.LINF: (1 / 255, 2 / 255, 4 / 255, 8 / 255, 16 / 255, 32 / 255, 48 / 255, 64 / 255),
}
"""The radii at which omega is estimated unless the protocol says otherwise."""


class OmegaBound(FittedBound):
    """|v| >= eps for every adversarial v, if (l0 - l(x) - omega(eps)) / |grad l(x)|_* >= eps.

    GradReg Proposition 2.2 (omega-bound), with the loss and l0 of `l-bound` and
    omega(eps) = sup over x and |v| <= eps of l(x + v) - l(x) - <v, grad l(x)> (eq. 5).
    omega is estimated on `grid` as the 1 - p quantile of a GEV distribution fitted to maxima over random batches
    of images, each with one v uniform in the ball; then made monotone by a running maximum, at least 0. That is
    an ESTIMATE: random directions rarely meet the worst one, the less so the more pixels there are.

    Deviation: x + v is clipped to [0, 1]. Adversarial pictures lie in the box, and clipping only shortens v.
    Between grid points: omega(eps) <= omega(g) for eps <= g, so that min(g, (l0 - l(x) - omega(g)) / |grad|_*)
    satisfies the proposition for each grid point g; the radius is the largest of them.
    """

    name: ClassVar[str] = "omega-bound"
    summary: ClassVar[str] = "margin, local gradient and estimated modulus of continuity (GradReg, Prop. 2.2)"

    grid: tuple[PositiveFloat, ...] = ()
    """Ascending radii in pixel units at which omega is estimated; empty for GRIDS of the norm."""

    @field_validator("grid")
    @classmethod
    def _ascending(cls, grid: tuple[float, ...]) -> tuple[float, ...]:
        if list(grid) != sorted(set(grid)):
            raise ValueError(f"expected a grid of distinct ascending radii, got {list(grid)}")
        return grid

    def prepare(self, classifier: Classifier, images: Images, streams: Streams, step: Step) -> State:
        grid = self.grid or GRIDS[self.norm]
        maxima = []
        for rows in self.draws(len(images), self.batch, streams):
            maxima.append(self._departures(classifier, images.select(rows), grid, streams).amax(1))
            step(len(maxima), self.batches)
        table = torch.stack(maxima, dim=1).cpu().numpy()
        fits = [fit(row, self.p) for row in table]
        omega = np.maximum.accumulate([max(f.estimate, 0.0) for f in fits])
        return tuple(
            row
            for eps, values, gev, estimate in zip(grid, table, fits, omega, strict=True)
            for row in (
                *(Statistic("omega_maximum", eps, float(value)) for value in values),
                *fit_rows("omega_", eps, gev),
                Statistic("omega", eps, float(estimate)),
            )
        )

    def _departures(self, classifier: Classifier, images: Images, grid: tuple[float, ...], streams: Streams) -> Tensor:
        """l(x + v) - l(x) - <v, grad l(x)> for each radius and image, (G, N); one direction serves all radii."""
        chunks = [(gradient, value) for gradient, value, _ in loss_gradient(classifier, images)]
        gradient, value = map(torch.cat, zip(*chunks, strict=True))
        one_stream = streams.select(torch.zeros(len(images), dtype=torch.int64))
        direction = one_stream.in_ball(self.norm, *images.shape)
        found = []
        for eps in grid:
            near = (images.pixels + eps * direction).clamp(0, 1)
            linear = (flat(near - images.pixels).double() * flat(gradient).double()).sum(1)
            found.append(loss_at(classifier, near, images.labels) - value - linear)
        return torch.stack(found)

    def radii(self, classifier: Classifier, images: Images, state: State, streams: Streams) -> Radii:
        here = slopes(classifier, images, self.norm)
        grid, omega = here.margin.new_tensor(looked_up(state, "omega")).T
        left = here.margin[:, None] - omega
        # 0 / 0: a flat loss whose margin is used up by omega, which certifies nothing.
        reach = (left / here.slope[:, None]).nan_to_num(nan=0.0, posinf=torch.inf)
        radius = torch.minimum(grid, reach).amax(1)
        return Radii(rounded_down(radius), here.predicted, torch.zeros_like(here.predicted, dtype=torch.bool))
