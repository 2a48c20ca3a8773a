"""What the certificates of a smoothed classifier share: their norm, their guarantee, the choice of the class."""

from __future__ import annotations

from abc import abstractmethod
from typing import Annotated, ClassVar, Self

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from robusteval.certify.base import Certificate
from robusteval.core.methods import Guarantee
from robusteval.core.norms import Norm
from robusteval.numerics.binomial import fewest


class Smoothed(Certificate):
    """An L2 radius of a classifier that is a majority vote under Gaussian noise: right with probability 1 - alpha."""

    kind: ClassVar[Guarantee] = Guarantee.CONFIDENCE
    norms: ClassVar[tuple[Norm, ...]] = (Norm.L2,)

    norm: Norm = Norm.L2
    n0: PositiveInt = 100
    """Samples that choose the class, at each sigma."""
    n: PositiveInt = 1000
    """Samples that bound its probability, at each sigma."""
    alpha: Annotated[float, Field(gt=0, lt=1)] = 0.001
    """The probability, for each image, that its radius, or any where there are several, is wrong."""

    @model_validator(mode="after")
    def _enough(self) -> Self:
        if not self.certifies(self.n):
            raise ValueError(
                f"expected n of at least {fewest(self.certifies)} at alpha = {self.alpha:g}, got {self.n}: not even "
                "votes for one class alone would certify anything"
            )
        return self

    @abstractmethod
    def certifies(self, n: int) -> bool:
        """Whether n votes, all for one class, give a radius above 0."""

    @property
    def error_probability(self) -> float:
        return self.alpha


class SmoothedOnce(Smoothed):
    """The same at one noise level."""

    sigma: PositiveFloat = 0.25
    """Standard deviation of the noise, pixel units."""

    @property
    def says(self) -> str:
        return f", sigma {self.sigma:g}"

    @property
    def subject(self) -> str:
        return f"smooth(f, {self.sigma:g})"
