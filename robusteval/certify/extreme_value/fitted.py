"""What the two bounds share that rest on extreme values: settings, loss, draws, and the rows that a fit leaves."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import numpy as np
from pydantic import Field, PositiveInt
from torch import Tensor

from robusteval.certify.base import Certificate, State
from robusteval.certify.extreme_value.gev import WORDS, Gev
from robusteval.certify.extreme_value.goodness import p_value, standard_errors
from robusteval.certify.extreme_value.likelihood import Floats
from robusteval.certify.extreme_value.loss import margin_loss
from robusteval.core.methods import Guarantee, Quantity, Statistic
from robusteval.core.streams import Streams


class FittedBound(Certificate):
    """A bound with a constant that is estimated as an extreme value over the data: an ESTIMATE, not a proof."""

    kind: ClassVar[Guarantee] = Guarantee.ESTIMATE

    scores: Literal["probabilities", "logits"] = "probabilities"
    """What the loss is a difference of: softmax outputs, as in the paper, or logits."""
    top: PositiveInt = 1
    """The network counts as right while the label is among its `top` most likely classes."""
    p: Annotated[float, Field(gt=0, lt=1)] = 0.001
    """The fitted maximum of a further batch exceeds the constant with this probability."""
    batches: PositiveInt = 50
    """The number of maxima that the distribution is fitted to."""
    batch: PositiveInt = 50
    """The draws whose largest value is one maximum."""
    refits: PositiveInt = 200
    """Bootstrap samples behind the p-value of a fit, which is a multiple of 1 / (refits + 1)."""

    @property
    def subject(self) -> str:
        """Of top-k correctness a top-1 witness says nothing."""
        return "f" if self.top == 1 else f"top-{self.top}(f)"

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """l of logits (N, K) with these settings, (N,) float64."""
        return margin_loss(logits, labels, self.scores, self.top)

    def draws(self, n: int, size: int, streams: Streams) -> Tensor:
        """Rows of a set of n images, (batches, size) with replacement, from the stream of the set."""
        return streams.integers(n, self.batches, size)[0]

    def fit_rows(self, prefix: str, at: float, maxima: Floats, gev: Gev, seed: int) -> State:
        """The fit as statistics: `<prefix>gev_shape` (scipy's sign, c = -xi), `..._loc`, `..._scale`, standard errors
        of these and of the quantile, the p-value of the fit, the largest value seen, and how it went (gev.Fit).

        `seed` is that of the p-value's bootstrap: one of its own for each fit, so that none changes another's p-value.
        """
        of_shape, of_loc, of_scale, of_quantile = standard_errors(maxima, gev, self.p)
        values = {
            "gev_shape": gev.shape,
            "gev_shape_error": of_shape,
            "gev_loc": gev.loc,
            "gev_loc_error": of_loc,
            "gev_scale": gev.scale,
            "gev_scale_error": of_scale,
            "quantile_error": of_quantile,
            "fit_p_value": p_value(maxima, gev, np.random.default_rng(seed), self.refits),
            "observed_maximum": gev.observed,
            "fit_code": float(gev.code),
        }
        return tuple(Statistic(prefix + name, at, value) for name, value in values.items())


def fit_quantities(prefix: str = "") -> tuple[Quantity, ...]:
    """What `fit_rows` leaves."""
    titles = {
        "gev_shape": "shape of the fit",
        "gev_shape_error": "standard error of the shape",
        "gev_loc": "location of the fit",
        "gev_loc_error": "standard error of the location",
        "gev_scale": "scale of the fit",
        "gev_scale_error": "standard error of the scale",
        "quantile_error": "standard error of the quantile",
        "fit_p_value": "p-value of the fit",
        "observed_maximum": "largest value seen",
    }
    code = Quantity(name=f"{prefix}fit_code", title="state of the fit", words=WORDS)
    return (*(Quantity(name=prefix + name, title=title) for name, title in titles.items()), code)


def looked_up(state: State, quantity: str) -> list[tuple[float, float]]:
    """(at, value) of every row of one quantity, in the order of `at`."""
    return sorted((s.at, s.value) for s in state if s.quantity == quantity)
