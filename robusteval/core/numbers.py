"""Numbers as users write them: decimal, or as a fraction such as 8/255; always finite."""

from __future__ import annotations

import math
import re

MOST = 2**63 - 1
"""The largest whole number that a setting or a seed may be."""
_DECIMAL = r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?"
_NUMBER = re.compile(rf"\s*({_DECIMAL})\s*(?:/\s*({_DECIMAL})\s*)?", re.ASCII)


def finite(text: str) -> float:
    """The number that a text is. Raises ValueError in words for one that is none, is not finite, or is too large for a
    float; digits are 0 to 9, and nothing stands between them."""
    found = _NUMBER.fullmatch(text)
    over = float(found[2]) if found and found[2] else 1.0
    value = float(found[1]) / over if found and over else math.nan
    if not math.isfinite(value):
        raise ValueError("expected a finite number or a fraction such as '8/255'")
    return value


def number(value: object) -> object:
    """The same of a text such as "8/255", as everywhere in protocols; what is no text stays as it is."""
    return finite(value) if isinstance(value, str) else value


def is_whole(text: str) -> bool:
    """Whether a text is a whole number that is not negative, in the digits 0 to 9."""
    return text.isascii() and text.isdecimal()
