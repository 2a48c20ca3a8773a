"""What attacks, certificates and metrics share: a frozen, validated settings class that *is* the method."""

from __future__ import annotations

from enum import Enum
from typing import ClassVar

from pydantic import BaseModel, ConfigDict


class Guarantee(Enum):
    """How far a bound can be trusted; kinds are never merged."""

    WITNESS = "witness"
    PROOF = "proof"
    CONFIDENCE = "confidence"
    ESTIMATE = "estimate"


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
