"""Grid: a table as text, before it takes a form."""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Grid:
    """A table: its title, its headings, and rows of text as long as they are. `text` columns come first."""

    title: str
    headings: list[str]
    rows: list[list[str]]
    text: int = 1
    note: str = ""
    """What a reader must know, below it."""
    name: str = ""
    """Of its file; made of the title where it is empty."""

    @property
    def key(self) -> str:
        return self.name or re.sub(r"[^a-z0-9]+", "-", self.title.lower()).strip("-")
