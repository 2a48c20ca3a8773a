"""VNN-LIB properties (the usual form, vnnlib.org): a box of inputs, and the outputs that none of it may have.

    (assert (>= X_0 0.1)) (assert (<= X_0 0.2)) ... (assert (or (and (>= Y_1 Y_0)) (and (>= Y_2 Y_0))))

A property is read as an image, the middle of the box, its class, and a budget in Linf whose ball covers the box. Where
every image of that ball has the class, the property holds; the converse is not said: the box may be smaller.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from robusteval.core.errors import UserError
from robusteval.core.images import Images
from robusteval.core.limits import TEXT_BYTES, read_limited
from robusteval.core.numbers import is_whole

_TOKEN = re.compile(r"[()]|[^\s()]+")
_COMMENT = re.compile(r";[^\n]*")
_DEEPEST = 16
"""Brackets in one another."""
_MOST_SETS = 10_000
Condition = tuple[int, int]
"""(j, c): output j is at least output c."""


@dataclass(frozen=True)
class Property:
    """lower, upper: of each input; unsafe: sets of conditions, one of which would have to hold as a whole."""

    path: Path
    lower: tuple[float, ...]
    upper: tuple[float, ...]
    unsafe: tuple[tuple[Condition, ...], ...]

    @property
    def label(self) -> int:
        """A class c so that none of the unsafe outputs has c as its largest, alone. Raises UserError for none."""
        classes = [{c for j, c in conditions if j != c} for conditions in self.unsafe]
        common = set.intersection(*classes) if classes else set()
        if not common:
            raise UserError(f"expected unsafe outputs Y_j >= Y_c of one class c in {self.path}, got several classes c")
        return min(common)

    def images(self, shape: tuple[int, int, int]) -> tuple[Images, float]:
        """The middle of the box as an image (1, C, H, W) with its class, and the budget, rounded up. Raises UserError
        for another number of inputs, and for a box that leaves [0, 1]."""
        if math.prod(shape) != len(self.lower):
            wanted = "x".join(map(str, shape))
            raise UserError(f"expected {math.prod(shape)} inputs ({wanted}) in {self.path}, got {len(self.lower)}")
        if min(self.lower) < 0 or max(self.upper) > 1:
            found = f"{min(self.lower):g} to {max(self.upper):g}"
            raise UserError(f"expected inputs in [0, 1], as pixels are, in {self.path}, got {found}")
        lower, upper = (torch.tensor(ends, dtype=torch.float64) for ends in (self.lower, self.upper))
        middle = ((lower + upper) / 2).float().clamp(0, 1)
        budget = float(torch.maximum(upper - middle.double(), middle.double() - lower).max())
        pixels, labels = middle.reshape(1, *shape), torch.tensor([self.label])
        return Images(("000000",), pixels, labels, source=str(self.path)), math.nextafter(budget, math.inf)


def read_property(path: Path) -> Property:
    """A property from a file. Raises UserError in one line for any other form."""
    text = _COMMENT.sub("", read_limited(path, TEXT_BYTES, "a VNN-LIB property").decode("utf-8", "replace"))
    ends: dict[tuple[str, int], float] = {}
    unsafe: list[tuple[Condition, ...]] | None = None
    names: set[str] = set()
    for command in _commands(path, text):
        match command:
            case ["declare-const", str(name), "Real"] | ["declare-fun", str(name), [], "Real"]:
                names.add(name)
            case ["assert", [("<=" | ">=") as order, str(a), str(b)]] if "X_" in (a[:2], b[:2]):
                _bound(path, ends, order, a, b)
            case ["assert", ["and", *parts]] if all(_is_bound(part) for part in parts):
                for order, a, b in parts:
                    _bound(path, ends, order, a, b)
            case ["assert", condition]:
                found = _choices(path, condition)
                # Several assertions hold together.
                count = len(found) * (1 if unsafe is None else len(unsafe))
                if count > _MOST_SETS:
                    raise UserError(f"expected at most {_MOST_SETS:,} unsafe sets of outputs in {path}, got {count:,}")
                unsafe = found if unsafe is None else [(*a, *b) for a in unsafe for b in found]
            case _:
                raise UserError(f"expected declarations and assertions in {path}, got {str(command)[:60]}")
    count = sum(name.startswith("X_") for name in names)
    missing = [f"X_{i}" for i in range(count) for side in ("<=", ">=") if (side, i) not in ends]
    if not count or missing or unsafe is None:
        what = f"no bound of {missing[0]}" if missing else "no condition on outputs" if count else "no inputs X_0, ..."
        raise UserError(f"expected a box of inputs and a condition on outputs in {path}, got {what}")
    lower, upper = (tuple(ends[side, i] for i in range(count)) for side in (">=", "<="))
    if any(not a <= b for a, b in zip(lower, upper, strict=True)):
        raise UserError(f"expected lower bounds up to the upper ones in {path}, got an empty box")
    return Property(path, lower, upper, tuple(unsafe))


def _commands(path: Path, text: str) -> Iterator[Any]:
    """What stands in outer brackets, as lists of texts and lists."""
    stack: list[list[Any]] = []
    for token in _TOKEN.findall(text):
        if token == "(":
            stack.append([])
            if len(stack) > _DEEPEST:
                raise UserError(f"expected at most {_DEEPEST} brackets in one another in {path}, got more")
        elif not stack:
            raise UserError(f"expected ( in {path}, got {token[:60]}")
        elif token != ")":
            stack[-1].append(token)
        elif len(stack) == 1:
            yield stack.pop()
        else:
            done = stack.pop()
            stack[-1].append(done)
    if stack:
        raise UserError(f"expected ) at the end of {path}, got a file that is cut short")


def _is_bound(part: Any) -> bool:
    match part:
        case ["<=" | ">=", str(a), str(b)]:
            return "X_" in (a[:2], b[:2])
    return False


def _bound(path: Path, ends: dict[tuple[str, int], float], order: str, a: str, b: str) -> None:
    """X_i <= number or number <= X_i and their likes; of several the tightest."""
    if b.startswith("X_"):
        order, a, b = {"<=": ">=", ">=": "<="}[order], b, a
    number, place = _number(b), a[2:]
    if number is None or not _is_place(place) or order not in ("<=", ">="):
        raise UserError(f"expected an input and a number in {path}, got {order} {a[:40]} {b[:40]}")
    tightest = min if order == "<=" else max
    ends[order, int(place)] = tightest(number, ends.get((order, int(place)), number))


def _choices(path: Path, condition: Any) -> list[tuple[Condition, ...]]:
    """The sets of conditions on outputs of which one has to hold."""
    match condition:
        case ["or", *parts]:
            return [choice for part in parts for choice in _choices(path, part)]
        case ["and", *parts]:
            joined: list[Condition] = []
            for part in parts:
                found = _choices(path, part)
                if len(found) != 1:
                    break
                joined += found[0]
            else:
                return [tuple(joined)]
        case [("<=" | ">=") as order, str(a), str(b)] if (
            a[:2] == b[:2] == "Y_" and _is_place(a[2:]) and _is_place(b[2:])
        ):
            left, right = int(a[2:]), int(b[2:])
            return [((left, right) if order == ">=" else (right, left),)]
    raise UserError(f"expected conditions Y_j >= Y_c, with and below or, in {path}, got {str(condition)[:60]}")


def _is_place(text: str) -> bool:
    return is_whole(text) and len(text) < 10


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None
