"""What the bytes of an encoded image say of it, beside its decoder: how long it would take, and whether there is enough
for its size."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterator

import numpy as np
from PIL import Image

from robusteval.core import limits
from robusteval.core.errors import UserError

_SCAN = b"\xff\xda"
"""JPEG's marker before each pass over the pixels; it cannot stand within the data of one."""
_PPM_HEADER = 2**16
"""Bytes; Pillow reads them one by one."""
_PPM_COMMENTS = 1000
"""In an image of numbers as text; each takes the length of the text to leave out."""
_TILES, _STRIPS, _ROWS, _PLANAR, _SAMPLES = 324, 273, 278, 284, 277
_TILE_SIZE = (322, 323)


def check_time(content: bytes, name: str) -> None:
    """Raises UserError where the structure of an image would be read for longer than its pixels."""
    if content[:4] == b"\x89PNG":
        _check_blocks(_chunks_of_png(content), name)
    elif content[:3] == b"GIF":
        _check_blocks(_blocks_of_gif(content), name)
    elif content[:2] == b"\xff\xd8":
        limits.check_limit_of(name, content.count(_SCAN), limits.IMAGE_SCANS, "passes over the pixels")
    elif content[:1] == b"P" and content[1:2] in b"123456":
        plain = content[1:2] in b"123"
        limits.check_limit_of(name, content.count(b"#") if plain else 0, _PPM_COMMENTS, "comments")
        words = re.sub(rb"#[^\r\n]*", b"", content[:_PPM_HEADER]).split(None, 4)
        if len(content) > _PPM_HEADER and len(words) < 4:
            limits.check_limit_of(name, len(content), _PPM_HEADER, "bytes in the header")


def check_whole(image: Image.Image, content: bytes, name: str) -> None:
    """Raises UserError where there is certainly less than its size takes, which decoders fill with grey or black: in a
    JPEG each 8 x 8 pixels are a bit at least, and a TIFF names each of its tiles or strips."""
    if image.format in ("JPEG", "MPO"):
        blocks, bits = math.ceil(image.width / 8) * math.ceil(image.height / 8), 8 * len(content)
        if bits < blocks:
            raise UserError(
                f"expected at least {blocks // 8:,} bytes for {image.width}x{image.height} pixels in {name}, "
                f"got {len(content):,}"
            )
    elif image.format == "TIFF":
        tags = getattr(image, "tag_v2", {})
        if _TILES in tags:
            width, height = (max(1, int(tags.get(tag, 1))) for tag in _TILE_SIZE)
            wanted, found = math.ceil(image.width / width) * math.ceil(image.height / height), np.size(tags[_TILES])
        else:
            rows = max(1, int(tags.get(_ROWS, image.height)))
            wanted, found = math.ceil(image.height / rows), np.size(tags.get(_STRIPS, ()))
        wanted *= int(tags.get(_SAMPLES, 1)) if tags.get(_PLANAR, 1) == 2 else 1
        if found < wanted:
            size = f"{image.width}x{image.height}"
            raise UserError(f"expected {wanted:,} tiles or strips for {size} pixels in {name}, got {found:,}")


def _check_blocks(blocks: Iterator[int], name: str) -> None:
    most = limits.IMAGE_BLOCKS
    count = sum(1 for _ in itertools.islice(blocks, most + 1))
    limits.check_limit_of(name, count, most, "blocks or more")


def _chunks_of_png(content: bytes) -> Iterator[int]:
    at = 8
    while at + 8 <= len(content):
        yield at
        at += 12 + int.from_bytes(content[at : at + 4], "big")


def _blocks_of_gif(content: bytes) -> Iterator[int]:
    """Extensions, frames, and the pieces of at most 255 bytes that they are made of."""

    def colours(at: int) -> int:
        return 3 << ((content[at] & 7) + 1) if content[at] & 128 else 0

    at = 13 + colours(10) if len(content) > 10 else len(content)
    while at + 10 < len(content) and content[at] in b"!,":
        yield at
        at += 2 if content[at] == 0x21 else 11 + colours(at + 9)
        while at < len(content) and content[at]:
            yield at
            at += 1 + content[at]
        at += 1
