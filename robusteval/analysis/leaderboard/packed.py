"""What leaderboard.json holds image by image: lists, and of many images the same compressed, as text."""

from __future__ import annotations

import base64
import binascii
import json
import math
import zlib
from array import array
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
from pydantic import PlainSerializer, PlainValidator, WithJsonSchema

from robusteval.core.limits import MANIFEST_BYTES

if TYPE_CHECKING:
    Numbers = array[float]
else:
    Numbers = array

MANY = 10_000
"""Of more images a list is text: a file of a million images stays one that can be read."""
_TEXT = {"type": "string", "contentEncoding": "base64"}


def _packed(content: bytes) -> str:
    return base64.b64encode(zlib.compress(content)).decode()


def _unpacked(text: str) -> bytes:
    """Raises ValueError for what is damaged, or larger than a leaderboard may be."""
    try:
        unpacking = zlib.decompressobj()
        content = unpacking.decompress(base64.b64decode(text, validate=True), MANIFEST_BYTES)
    except (binascii.Error, zlib.error) as error:
        raise ValueError(f"expected a list, or one that was compressed by zlib, in base64: {error}") from error
    if not unpacking.eof:
        raise ValueError(f"expected a whole list of at most {MANIFEST_BYTES:,} bytes")
    return content


def _values(given: Any) -> Numbers:
    """Numbers, of which null is infinity."""
    if isinstance(given, str):
        return array("d", np.frombuffer(_unpacked(given), "<f8").tobytes())
    if not isinstance(given, np.ndarray | array):
        if not isinstance(given, Sequence) or not all(x is None or type(x) in (int, float) for x in given):
            raise ValueError("expected a list of numbers")
        given = [math.inf if x is None else float(x) for x in given]
    return array("d", np.asarray(given, dtype=np.float64).tobytes())


def _values_for_json(values: Numbers) -> list[float | None] | str:
    if len(values) <= MANY:
        return [None if math.isinf(x) else x for x in values]
    return _packed(np.asarray(values).astype("<f8").tobytes())


def _names(given: Any) -> tuple[str, ...]:
    found = json.loads(_unpacked(given)) if isinstance(given, str) else given
    if not isinstance(found, list | tuple) or not all(isinstance(name, str) for name in found):
        raise ValueError("expected a list of names")
    return tuple(found)


def _names_for_json(names: tuple[str, ...]) -> list[str] | str:
    return list(names) if len(names) <= MANY else _packed(json.dumps(names).encode())


_NUMBERS = {"type": "array", "items": {"anyOf": [{"type": "number"}, {"type": "null"}]}}
ByImage = Annotated[
    Numbers,
    PlainValidator(_values),
    PlainSerializer(_values_for_json),
    WithJsonSchema(
        {"anyOf": [_NUMBERS, {**_TEXT, "description": f"Of more than {MANY:,} images: float64 <, zlib, base64."}]}
    ),
]
"""A number for each image; null in JSON is infinity."""
ImageIds = Annotated[
    tuple[str, ...],
    PlainValidator(_names),
    PlainSerializer(_names_for_json),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "array", "items": {"type": "string"}},
                {**_TEXT, "description": f"Of more than {MANY:,} images: the list in JSON, zlib, base64."},
            ]
        }
    ),
]
"""The ids of images."""
