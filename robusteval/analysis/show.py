"""Numbers as text. Lower bounds round down, upper bounds round up, so that no shown number claims too much."""

from __future__ import annotations

import math
from collections.abc import Sequence
from decimal import ROUND_CEILING, ROUND_FLOOR, ROUND_HALF_EVEN, Decimal
from enum import Enum

NONE_FOUND = "none found"
"""An infinite upper bound: no attack found a witness."""
DECIMALS = {"l0": 0, "l1": 3, "l2": 4, "linf": 5}
"""Of distances in pixel units (L0 counts pixel values), so that a column aligns."""


class Round(Enum):
    DOWN = ROUND_FLOOR
    UP = ROUND_CEILING
    NEAREST = ROUND_HALF_EVEN


def fixed(value: float, decimals: int, rounding: Round = Round.NEAREST) -> str:
    """A finite number with so many decimals, rounded from its shortest exact decimal form."""
    text = str(Decimal(repr(float(value))).quantize(Decimal(1).scaleb(-decimals), rounding.value))
    return text.removeprefix("-") if float(text) == 0 else text


def percent(share: float, rounding: Round = Round.NEAREST) -> str:
    """0.9312 -> "93.1 %". What is "at most" so much is rounded up: accuracy under attack, errors of a certificate. What
    is "at least" so much is rounded down: certified accuracy, and images that an attack fooled, so that these and the
    accuracy that it left make 100 %. What is neither, such as clean accuracy, goes to the nearest."""
    return f"{percentage(share, 1, rounding)} %"


def percentage(share: float, decimals: int, rounding: Round = Round.NEAREST) -> str:
    """0.9312 -> "93.12" with two decimals. The share's shortest decimal form is moved by two places, not multiplied:
    0.07 * 100 is above 7 in binary, and would round up to 7.01."""
    return fixed(float(Decimal(repr(float(share))) * 100), decimals, rounding)


def percents(low: float, high: float) -> str:
    """An interval of shares, rounded outwards: "88.0 to 96.1 %"."""
    return f"{percent(low, Round.DOWN).removesuffix(' %')} to {percent(high, Round.UP)}"


def distance(value: float, norm: str, rounding: Round) -> str:
    """A distance in pixel units; infinity reads "none found"."""
    return NONE_FOUND if math.isinf(value) else fixed(value, DECIMALS[norm], rounding)


def lower(value: float, norm: str) -> str:
    """A certified radius, rounded down; an infinite one, of a constant loss, reads "unbounded"."""
    return "unbounded" if math.isinf(value) else distance(value, norm, Round.DOWN)


def upper(value: float, norm: str) -> str:
    """The distance of a witness, rounded up."""
    return distance(value, norm, Round.UP)


def distances(low: float, high: float, norm: str) -> str:
    """An interval of distances, rounded outwards."""
    return NONE_FOUND if math.isinf(low) else f"{lower(low, norm)} to {upper(high, norm)}"


def budget(value: float) -> str:
    """8 / 255 -> "8/255"; 0.5 -> "0.5"; 12000 -> "12000"."""
    plain = f"{value:.0f}" if value == round(value) else f"{value:g}"
    levels = round(value * 255)
    if len(plain) > 5 and value < 1 and levels and math.isclose(value * 255, levels, rel_tol=1e-6):
        return f"{levels}/255"
    return plain


def significant(value: float) -> str:
    """A number of any size with four digits; "-" for NaN."""
    return "-" if math.isnan(value) else f"{value:.4g}"


def count(value: float) -> str:
    """Evaluations an image: 1234.56 -> "1,234.6"."""
    return f"{value:,.1f}"


def seconds(value: float) -> str:
    return f"{value:,.1f} s"


def images(n: int) -> str:
    return f"{n:,} image" if n == 1 else f"{n:,} images"


def first_of(titles: Sequence[str], most: int = 4) -> str:
    """Some titles in a row, and how many more there are."""
    more = f" and {len(titles) - most} more" if len(titles) > most else ""
    return f"{'; '.join(titles[:most])}{more}"
