"""What the format of a data set leaves open: which part of it, by which names, in which size. Imports no torch."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from robusteval.core.errors import UserError, explain

_MOST_PIXELS = 2**16


class Reading(BaseModel):
    """How a data set is read; what is None is left as it is."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    resize: int | None = Field(None, ge=1, le=_MOST_PIXELS)
    """Pixels of the shorter side that images are resized to; the longer one in proportion, rounded down."""
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
