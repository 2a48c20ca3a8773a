"""Tables read back out of the forms that a report takes: title -> headings and rows, as text; and images."""

from __future__ import annotations

import html
import io
import re
from base64 import b64decode

import numpy as np
from PIL import Image

Tables = dict[str, list[list[str]]]


def in_html(page: str) -> Tables:
    """The tables of a page that stand under a heading of their own."""
    found = {}
    table = r'<h3>([^<]*)</h3>\s*<div class="scroll"[^>]*><table class="grid">(.*?)</table>'
    for title, body in re.findall(table, page, re.DOTALL):
        rows = re.findall(r"<tr>(.*?)</tr>", body, re.DOTALL)
        cells = [re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row, re.DOTALL) for row in rows]
        assert html.unescape(title) not in found
        found[html.unescape(title)] = [[_untagged(cell) for cell in row] for row in cells]
    return found


def _untagged(cell: str) -> str:
    return html.unescape(re.sub(r"</?abbr[^>]*>", "", cell))


def in_markdown(text: str) -> Tables:
    found = {}
    for title, body in re.findall(r"^### (.*)\n\n((?:\|.*\n)+)", text, re.MULTILINE):
        heading, _, *rows = body.splitlines()
        cells = [re.split(r"(?<!\\)\|", row)[1:-1] for row in (heading, *rows)]
        found[_plain(title)] = [[_plain(cell.strip()) for cell in row] for row in cells]
    return found


def in_latex(text: str) -> Tables:
    captions = re.findall(r"\\caption\{(.*)\}$", text, re.MULTILINE)
    bodies = re.findall(r"\\toprule\n(.*?)\\bottomrule", text, re.DOTALL)
    return {
        _spoken(title): [
            [_spoken(cell) for cell in re.split(r"(?<!\\) & ", row.removesuffix(r" \\"))]
            for row in body.splitlines()
            if row != r"\midrule"
        ]
        for title, body in zip(captions, bodies, strict=True)
    }


def _plain(text: str) -> str:
    return html.unescape(re.sub(r"\\([\\`*_\[\]|~#])", r"\1", text))


def _spoken(text: str) -> str:
    words = {"backslash": "\\", "asciitilde": "~", "asciicircum": "^", "less": "<", "greater": ">", "bar": "|"}
    text = re.sub(r"\\text([a-z]+)\{\}", lambda found: f"\0{found[1]}\0", text)
    text = re.sub(r"\\([{}$&%#_])", r"\1", text)
    return re.sub("\0([a-z]+)\0", lambda found: words[found[1]], text)


def decoded(uri: str, form: str) -> np.ndarray:
    """The grey levels (H, W) of an image that stands in a page."""
    head, data = uri.split(",")
    assert head == f"data:image/{form};base64"
    return np.asarray(Image.open(io.BytesIO(b64decode(data))).convert("L"))
