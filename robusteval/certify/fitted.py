"""What the two bounds share that rest on extreme values: their settings, their draws, the rows they leave."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field, PositiveInt
from torch import Tensor

from robusteval.certify.base import Certificate, State, Statistic
from robusteval.certify.gev import Gev
from robusteval.methods import Guarantee
from robusteval.streams import Streams


class FittedBound(Certificate):
    """A bound with a constant that is estimated as an extreme value over the data: an ESTIMATE, not a proof."""

    kind: ClassVar[Guarantee] = Guarantee.ESTIMATE

    p: Annotated[float, Field(gt=0, lt=1)] = 0.001
    """The fitted maximum of a further batch exceeds the constant with this probability."""
    batches: PositiveInt = 50
    """The number of maxima that the distribution is fitted to."""
    batch: PositiveInt = 50
    """The draws whose largest value is one maximum."""

    def draws(self, n: int, size: int, streams: Streams) -> Tensor:
        """Rows of a set of n images, (batches, size) with replacement, from the stream of the set."""
        return streams.integers(n, self.batches, size)[0]


def fit_rows(prefix: str, at: float, gev: Gev) -> State:
    """The fit as statistics: `<prefix>gev_shape` (scipy's sign, c = -xi), `..._loc`, `..._scale`, the largest
    value seen, and how it went (gev.Fit)."""
    values = {
        "gev_shape": gev.shape,
        "gev_loc": gev.loc,
        "gev_scale": gev.scale,
        "observed_maximum": gev.observed,
        "fit_code": float(gev.code),
    }
    return tuple(Statistic(prefix + name, at, value) for name, value in values.items())


def looked_up(state: State, quantity: str) -> list[tuple[float, float]]:
    """(at, value) of every row of one quantity, in the order of `at`."""
    return sorted((s.at, s.value) for s in state if s.quantity == quantity)
