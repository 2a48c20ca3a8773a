"""The text of a PDF that Chromium wrote, page by page."""

from __future__ import annotations

import re
import zlib

_OBJECT = re.compile(rb"(\d+) 0 obj\n(.*?)\nendobj", re.DOTALL)
_STREAM = re.compile(rb"stream\r?\n(.*)\r?\nendstream", re.DOTALL)


def pages_of(pdf: bytes) -> list[str]:
    """The text of each page as it is drawn: words may be cut where letters are set apart, so that tests look for it
    without spaces."""
    objects = {int(number): body for number, body in _OBJECT.findall(pdf)}
    return [_page(body, objects) for body in objects.values() if re.search(rb"/Type /Page\b", body)]


def _content(body: bytes) -> bytes:
    found = _STREAM.search(body)
    if not found:
        return b""
    return zlib.decompress(found[1]) if b"/FlateDecode" in body else found[1]


def _page(body: bytes, objects: dict[int, bytes]) -> str:
    resources = re.search(rb"/Resources (\d+) 0 R", body)
    listed = objects[int(resources[1])] if resources else body
    fonts = {name: objects[int(number)] for name, number in re.findall(rb"/(F\d+) (\d+) 0 R", listed)}
    letters = {name: _letters(font, objects) for name, font in fonts.items()}
    drawn, own = [], dict[int, str]()
    contents = re.search(rb"/Contents (\d+) 0 R", body)
    text_of = _content(objects[int(contents[1])]) if contents else b""
    for name, text in re.findall(rb"/(F\d+) [\d.]+ Tf|<([0-9A-Fa-f]+)>", text_of):
        if name:
            own = letters.get(name, {})
        else:
            drawn += [own.get(int(text[i : i + 4], 16), "?") for i in range(0, len(text), 4)]
    return "".join(drawn).replace(" ", "")


def _letters(font: bytes, objects: dict[int, bytes]) -> dict[int, str]:
    """Glyph -> what it says, from the font's map to Unicode."""
    given = re.search(rb"/ToUnicode (\d+) 0 R", font)
    table = _content(objects[int(given[1])]) if given else b""
    found: dict[int, str] = {}
    for block in re.findall(rb"beginbfchar(.*?)endbfchar", table, re.DOTALL):
        for glyph, said in re.findall(rb"<(\w+)> <(\w+)>", block):
            found[int(glyph, 16)] = bytes.fromhex(said.decode()).decode("utf-16-be")
    for block in re.findall(rb"beginbfrange(.*?)endbfrange", table, re.DOTALL):
        for first, last, said in re.findall(rb"<(\w+)> <(\w+)> <(\w+)>", block):
            for glyph in range(int(first, 16), int(last, 16) + 1):
                found[glyph] = chr(int(said, 16) + glyph - int(first, 16))
    return found
