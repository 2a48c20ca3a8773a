"""What attacks, certificates and metrics share: a frozen, validated settings class that *is* the method."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Any, ClassVar, Self, get_args

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    PositiveFloat,
    ValidationInfo,
    field_validator,
    model_validator,
)

from robusteval.core.norms import BALLS, Norm
from robusteval.core.numbers import MOST, number
from robusteval.core.passes import Passes


class Guarantee(StrEnum):
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


class Quantity(BaseModel):
    """A number that a method puts into the table of measurements or of statistics."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    """As the tables have it. A part in braces stands for what differs from row to row: "probability_{class}"."""
    title: str
    """As people read it. May name the parts in braces: "probability of class {class}"."""
    words: dict[int, str] = {}
    """What its values mean, where they are codes."""

    def covers(self, name: str) -> bool:
        """Whether this is the declaration of a quantity of the tables."""
        return self._match(name) is not None

    def called(self, name: str) -> str:
        """The title of a quantity of the tables that this declares: the parts of its name stand in the title's braces.
        Raises KeyError where this is not its declaration."""
        found = self._match(name)
        if found is None:
            raise KeyError(f"expected a name like {self.name}, got '{name}'")
        return self.title.format(**found.groupdict())

    def _match(self, name: str) -> re.Match[str] | None:
        texts = re.split(r"\{(\w+)\}", self.name)
        pattern = "".join(f"(?P<{part}>.+)" if i % 2 else re.escape(part) for i, part in enumerate(texts))
        return re.fullmatch(pattern, name)


class EnsembleStage(BaseModel):
    """One of the attacks of an ensemble: the value of the quantity `stage` that names it, and what shows it the way."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    value: int
    title: str
    follows: str


Step = Callable[[int, int], None]
"""Called with (done, total) to move a progress bar."""


Radius = Annotated[PositiveFloat, BeforeValidator(number)]
"""A radius in pixel units, a number or a fraction."""


class Settings(BaseModel):
    """Settings are fields; a typo or a value out of range fails when the object is made. One rule for every number:
    finite, no larger than 64 bits hold, in the digits 0 to 9, and no truth value."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _plain_number(cls, value: Any, info: ValidationInfo) -> Any:
        kinds = _kinds(cls.model_fields[str(info.field_name)].annotation)
        for part in value if isinstance(value, list | tuple) else (value,):
            if isinstance(part, bool) and kinds & {int, float} and bool not in kinds:
                raise ValueError("expected a number")
            if isinstance(part, int) and abs(part) > MOST:
                raise ValueError("expected a whole number of at most 64 bits")
            if isinstance(part, str) and str not in kinds and re.fullmatch(r"[\d.eE+-]+(_[\d.eE+-]+)+", part):
                raise ValueError("expected digits with nothing between them")
        return value


def _kinds(annotation: Any) -> set[Any]:
    """The types that an annotation is made of."""
    return {annotation}.union(*map(_kinds, get_args(annotation))) if get_args(annotation) else {annotation}


class Method(Settings):
    """Something that an audit or a training can be told to do; its settings *are* it."""

    name: ClassVar[str]
    """The key in the registry and in protocols."""
    title: ClassVar[str]
    """As a report shows it."""
    summary: ClassVar[str]
    """One line for `robusteval list`, with the source."""
    quantities: ClassVar[tuple[Quantity, ...]] = ()
    """What it puts into the tables of measurements and statistics. Where several cover a name, the first one counts."""
    batch_independent: ClassVar[bool] = True
    """Whether an image's result is the same whichever images share its batch."""

    def passes(self, images: int, classes: int) -> Passes | None:
        """What it is expected to take of a model of so many classes for so many images, none of which it breaks: for an
        attack at one budget. None where its work is not of passes, or nobody can say before it runs."""
        return None

    @property
    def label(self) -> str:
        """The name of its rows in the tables, unless the protocol gives another."""
        return self.name

    @property
    def says(self) -> str:
        """What a report says of the settings, behind the title: ", sigma 0.25"; empty where it says nothing."""
        return ""

    def heading(self, source: str | None = None) -> str:
        """The title of a stage with these settings; `source` names the model that it was made on, if not the audited
        one."""
        return f"{self.title}{f' from {source}' if source else ''}{self.says}"


class NormedMethod(Method):
    """A method that speaks of distances in one norm."""

    norms: ClassVar[tuple[Norm, ...]] = BALLS
    """The norms that `norm` may take."""

    norm: Norm

    @property
    def label(self) -> str:
        return f"{self.name}-{self.norm.value}"

    def heading(self, source: str | None = None) -> str:
        return f"{super().heading(source)}, {self.norm.symbol}"

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
