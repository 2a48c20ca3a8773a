"""SanityWarning: one reason to doubt that a model, its data and its settings belong together."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class SanityWarning:
    """`text` says what was seen, with counts; `advice` what to do. docs/sanity.md has a section of this `name`."""

    name: str
    title: str
    text: str
    advice: str

    def __str__(self) -> str:
        return f"{self.title}. {self.text} {self.advice}"


def in_percent(share: float) -> str:
    """A share, to a tenth of a percent."""
    return f"{100 * share:.1f} %"
