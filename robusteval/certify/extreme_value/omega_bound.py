"""omega-bound: the local gradient, and an estimate of how far the loss departs from its linear model."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar, Literal

import numpy as np
import torch
from pydantic import PositiveFloat, PositiveInt, field_validator
from torch import Tensor

from robusteval.certify.base import Radii, State
from robusteval.certify.extreme_value.departure import Tangent
from robusteval.certify.extreme_value.fitted import FittedBound, fit_quantities, looked_up
from robusteval.certify.extreme_value.gev import fit
from robusteval.certify.extreme_value.likelihood import Floats
from robusteval.certify.extreme_value.loss import rounded_down, slopes
from robusteval.core.images import Images
from robusteval.core.methods import Quantity, Statistic, Step
from robusteval.core.norms import Norm
from robusteval.core.passes import Passes
from robusteval.core.streams import Streams, derive_seed
from robusteval.models.classifier import Classifier

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
    of images, each with one v; then made monotone by a running maximum, at least 0. That is an ESTIMATE.
    `search` says where v comes from. "sampling": uniform in the ball, as in the paper; random directions rarely meet
    the worst one, the less so the more pixels there are. "ascent": of each batch the `climbers` with the largest
    departures at these samples, and the largest departure of the batch at the radius before, are starting points of
    `steps` steps of ascent on the departure. It finds far larger omega, still not the largest. With it both
    estimates are kept, `omega_sampled` and `omega_ascent`, the second never below the first, and the bound uses the
    second.

    Deviation: x + v is clipped to [0, 1]. Adversarial images lie in the box, and clipping only shortens v.
    Between grid points: omega(eps) <= omega(g) for eps <= g, so that min(g, (l0 - l(x) - omega(g)) / |grad|_*)
    satisfies the proposition for each grid point g; the radius is the largest of them. The measurement
    `gradient_norm` is |grad l(x)|_*.
    """

    name: ClassVar[str] = "omega-bound"
    title: ClassVar[str] = "omega-bound"
    summary: ClassVar[str] = "margin, local gradient and estimated modulus of continuity (GradReg, Prop. 2.2)"
    quantities = (
        Quantity(name="omega_maximum", title="largest departure of a batch"),
        *fit_quantities("omega_"),
        Quantity(name="omega_sampled", title="omega, sampled"),
        Quantity(name="omega_ascent", title="omega, by ascent"),
        Quantity(name="omega", title="omega"),
        Quantity(name="gradient_norm", title="|grad l|"),
    )

    grid: tuple[PositiveFloat, ...] = ()
    """Ascending radii in pixel units at which omega is estimated; empty for GRIDS of the norm."""
    search: Literal["sampling", "ascent"] = "ascent"
    """How v is found."""
    steps: PositiveInt = 5
    """Steps of the ascent: one gradient each."""
    climbers: PositiveInt = 5
    """Images of each batch that the ascent starts from."""

    def passes(self, images: int, classes: int) -> Passes:
        radii, size = len(self.grid or GRIDS[self.norm]), self.batch
        climbed = 2 * self.climbers * self.steps if self.climbs else 0
        each = Passes.both(size + radii * climbed) + Passes(radii * size)
        return each * self.batches + Passes.both(images)

    @field_validator("grid")
    @classmethod
    def _ascending(cls, grid: tuple[float, ...]) -> tuple[float, ...]:
        if list(grid) != sorted(set(grid)):
            raise ValueError(f"expected a grid of distinct ascending radii, got {list(grid)}")
        return grid

    @property
    def says(self) -> str:
        return "" if self.climbs else ", omega sampled"

    def prepare(self, classifier: Classifier, images: Images, streams: Streams, step: Step) -> State:
        grid = self.grid or GRIDS[self.norm]
        largest: dict[str, list[Tensor]] = {"omega_sampled": []}
        if self.climbs:
            largest["omega_ascent"] = []
        for done, rows in enumerate(self.draws(len(images), self.batch, streams), start=1):
            batch = images.select(rows).loaded()
            one_stream = streams.select(torch.zeros(len(batch), dtype=torch.int64))
            direction = one_stream.in_ball(self.norm, *batch.shape)
            tangent = Tangent.at(classifier, batch, self.loss)
            sampled = torch.stack([tangent.departure(_moved(batch.pixels, eps * direction)) for eps in grid])
            largest["omega_sampled"].append(sampled.amax(1))
            if self.climbs:
                largest["omega_ascent"].append(self._climbed(tangent, direction, sampled, grid))
            step(done, self.batches)
        omega, rows_of_omega = np.zeros(len(grid)), list[Statistic]()
        for quantity, found in largest.items():
            maxima = torch.stack(found, dim=1).cpu().numpy()
            fits = [fit(row, self.p) for row in maxima]
            omega = np.maximum(omega, np.maximum.accumulate([gev.estimate for gev in fits]))
            rows_of_omega += _rows(quantity, grid, omega)
        return (
            *(
                row
                for eps, values in zip(grid, maxima, strict=True)
                for row in _rows("omega_maximum", [eps] * len(values), values)
            ),
            *(
                row
                for eps, values, gev in zip(grid, maxima, fits, strict=True)
                for row in self.fit_rows("omega_", eps, values, gev, derive_seed(streams.seed, eps))
            ),
            *rows_of_omega,
            *_rows("omega", grid, omega),
        )

    @property
    def climbs(self) -> bool:
        return self.search == "ascent"

    def _climbed(self, tangent: Tangent, direction: Tensor, sampled: Tensor, grid: tuple[float, ...]) -> Tensor:
        """The largest departure of a batch at each radius, (G,), by ascent from the largest of `sampled` (G, B) and
        from where the radius before ended, lengthened to the new one."""
        x, found = tangent.pixels, []
        rows, v, before = sampled.new_empty(0, dtype=torch.int64), x[:0], 1.0
        for eps, departure in zip(grid, sampled, strict=True):
            best = departure.topk(min(self.climbers, len(x))).indices
            start = torch.cat([eps * direction[best], self.norm.project(v * (eps / before), eps)])
            rows = torch.cat([best, rows])
            near, reached = tangent.select(rows).climbed(_moved(x[rows], start), self.norm, eps, self.steps)
            found.append(torch.maximum(reached.max(), departure.max()))
            top = reached.argmax(0, keepdim=True)
            rows, v, before = rows[top], (near - x[rows])[top], eps
        return torch.stack(found).cummax(0).values

    def radii(self, classifier: Classifier, images: Images, state: State, streams: Streams) -> Radii:
        here = slopes(classifier, images, self.norm, self.loss)
        grid, omega = here.margin.new_tensor(looked_up(state, "omega")).T
        left = here.margin[:, None] - omega
        # 0 / 0: a flat loss whose margin is used up by omega, which certifies nothing.
        reach = (left / here.slope[:, None]).nan_to_num(nan=0.0, posinf=torch.inf)
        radius = torch.minimum(grid, reach).amax(1)
        none = torch.zeros_like(here.predicted, dtype=torch.bool)
        return Radii(rounded_down(radius), here.predicted, none, (("gradient_norm", 0, here.slope),))


def _moved(pixels: Tensor, v: Tensor) -> Tensor:
    return (pixels + v).clamp(0, 1)


def _rows(quantity: str, at: Iterable[float], values: Floats) -> State:
    return tuple(Statistic(quantity, a, value) for a, value in zip(at, values.tolist(), strict=True))
