"""What the format of a data set leaves open: which part of it, by which names, in which size. Imports no torch."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from robusteval.core.errors import UserError, explain
from robusteval.core.numbers import is_whole

_MOST_PIXELS = 2**16


def _is_side(text: str) -> bool:
    return is_whole(text) and len(text) < 9 and 1 <= int(text) <= _MOST_PIXELS


class Reading(BaseModel):
    """How a data set is read; what is None is left as it is."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    resize: int | str | None = None
    """Pixels of the shorter side that images are resized to, the longer one in proportion, rounded down; or both sides,
    "HEIGHTxWIDTH", whatever the proportion was."""
    crop: int | None = Field(None, ge=1, le=_MOST_PIXELS)
    """Height and width of the centre that is cut out, after they are resized."""
    interpolation: Literal["bilinear", "bicubic"] = "bilinear"
    """Of resizing, smoothed where it makes smaller, as Pillow does."""
    image_column: str | None = Field(None, min_length=1)
    """The column of a table, the array of a file or the suffix in a tar that has the images."""
    label_column: str | None = Field(None, min_length=1)
    """The same of the labels."""
    split: str | None = Field(None, min_length=1)
    """Such as train, test or validation."""
    scale: float | None = Field(None, gt=0, allow_inf_nan=False)
    """The number in arrays that stands for white."""

    @field_validator("resize", mode="before")
    @classmethod
    def _size(cls, given: object) -> object:
        if given is None:
            return None
        sides = str(given).split("x") if isinstance(given, int | str) and not isinstance(given, bool) else []
        if len(sides) not in (1, 2) or not all(_is_side(side) for side in sides):
            raise ValueError(f"expected 1 to {_MOST_PIXELS} pixels of the shorter side, or HEIGHTxWIDTH")
        return int(sides[0]) if len(sides) == 1 else "x".join(str(int(side)) for side in sides)

    @property
    def size(self) -> tuple[int, int] | None:
        """(H, W) where images are resized to both."""
        if not isinstance(self.resize, str):
            return None
        height, width = self.resize.split("x")
        return int(height), int(width)

    @property
    def asked(self) -> dict[str, Any]:
        """What is not left as it is, by name."""
        return self.model_dump(exclude_defaults=True)

    @property
    def resizes(self) -> bool:
        return self.resize is not None or self.crop is not None


AS_IT_IS = Reading()


def reading_of(**given: Any) -> Reading:
    """The settings as the command line has them, None for what is not given. Raises UserError that names the option."""
    try:
        return Reading(**{name: value for name, value in given.items() if value is not None})
    except ValidationError as error:
        raise UserError(explain(error, called=option_of)) from error


def option_of(name: str) -> str:
    """The option of a setting."""
    return f"--{name.replace('_', '-')}"
