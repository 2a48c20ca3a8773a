"""What attacks, certificates and metrics share: a frozen, validated settings class that *is* the method."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from fractions import Fraction
from typing import Annotated, Any, ClassVar, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, PositiveFloat, model_validator

from robusteval.core.norms import BALLS, Norm


class Guarantee(Enum):
    """How far a bound can be trusted; kinds are never merged."""

    WITNESS = "witness"
    PROOF = "proof"
    CONFIDENCE = "confidence"
    ESTIMATE = "estimate"


@dataclass(frozen=True)
class Statistic:
    """A number about the whole set: the value of `quantity` at `at` (0 where it depends on nothing)."""

    quantity: str
    at: float
    value: float


Step = Callable[[int, int], None]
"""Called with (done, total) to move a progress bar."""


def number(value: object) -> object:
    """A fraction such as "8/255", as everywhere in protocols."""
    try:
        return float(Fraction(value)) if isinstance(value, str) else value
    except ZeroDivisionError:
        raise ValueError("expected a number or a fraction such as '8/255'") from None


Radius = Annotated[PositiveFloat, BeforeValidator(number)]
"""A radius in pixel units, a number or a fraction."""


class Method(BaseModel):
    """Settings are fields; a typo or a value out of range fails when the object is made."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: ClassVar[str]
    """The key in the registry and in protocols."""
    summary: ClassVar[str]
    """One line for `robusteval list`, with the source."""
    batch_independent: ClassVar[bool] = True
    """Whether an image's result is the same whichever images share its batch."""

    @property
    def label(self) -> str:
        """The name of its rows in the tables, unless the protocol gives another."""
        return self.name


class NormedMethod(Method):
    """A method that speaks of distances in one norm."""

    norms: ClassVar[tuple[Norm, ...]] = BALLS
    """The norms that `norm` may take."""

    norm: Norm

    @property
    def label(self) -> str:
        return f"{self.name}-{self.norm.value}"

    @model_validator(mode="before")
    @classmethod
    def _default_norm(cls, settings: Any) -> Any:
        """A method that knows a single norm need not be told it."""
        if isinstance(settings, dict) and "norm" not in settings and len(cls.norms) == 1:
            return {**settings, "norm": cls.norms[0]}
        return settings

    @model_validator(mode="after")
    def _known_norm(self) -> Self:
        if self.norm not in self.norms:
            names = ", ".join(n.value for n in self.norms)
            raise ValueError(f"expected norm in {names} for {self.name}, got {self.norm.value}")
        return self
