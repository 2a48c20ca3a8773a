"""Text that others wrote (names, titles, messages), made safe for what shows it: a terminal, a page, XML, a cell."""

from __future__ import annotations

import re

REPLACED = "\ufffd"
"""What stands where a character was that is no text."""
LONGEST_LINE = 2000
"""Of a message, in characters; a longer one is cut."""
_UNSEEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ud800-\udfff\ufeff\ufff9-\ufffb"
    "\ufffe\uffff\U000e0000-\U000e007f]"
)
"""Controls of terminals (C0 but tab and line feed, DEL, C1), of the direction of writing and other unseen ones, lone
surrogates, and what XML forbids."""
_NUMBER = re.compile(r"[-+]?\d[\d,.]*(e[-+]?\d+)?( ?%)?|-|[-+]?inf", re.ASCII | re.IGNORECASE)
_FORMULA = ("=", "+", "-", "@", "\uff1d", "\uff0b", "\uff0d", "\uff20")


def readable(text: str) -> str:
    """The text, possibly of several lines, without a character that is a command to what shows it: each is replaced.
    What it returns is well-formed UTF-8 and allowed in XML."""
    return _UNSEEN.sub(REPLACED, text)


def one_line(text: str, longest: int = LONGEST_LINE) -> str:
    """The same on a single line, cut where it is longer than `longest`."""
    line = readable(" ".join(text[: 4 * longest].split()))
    return line if len(line) <= longest else f"{line[: longest - 1]}\u2026"


def dead(cell: str) -> str:
    """A cell of a table for spreadsheets: no program takes it for a formula; numbers stay numbers."""
    text = readable(cell)
    if text.lstrip().startswith(_FORMULA) or text[:1] in ("\t", "\n"):
        return text if _NUMBER.fullmatch(text) else f"'{text}"
    return text
