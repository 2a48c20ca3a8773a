"""Changes to good files: bits turned, parts cut out, doubled and swapped, numbers and words exchanged for hard ones.
Every reader reads them or raises UserError, and nothing else."""

from __future__ import annotations

import re
from typing import Any

from hypothesis import strategies as st

HARD = [
    b"",
    b"0",
    b"-1",
    b"1e999",
    b"NaN",
    b"null",
    b"{}",
    b"[]",
    b'""',
    b"9" * 30,
    b"true",
    b"../x",
    b"\xff\xfe",
    b"\0",
]
HARD += [b"\0", b"[" * 3000, b'{"a":' * 3000, b"\x1b[2J", b"= 1", b"\n[[attacks]]\n"]


def changed(draw: Any, content: bytes) -> bytes:
    """One to four changes; most of them in the first kilobyte or the last, where the structure is."""
    for _ in range(draw(st.integers(1, 4))):
        n = len(content)
        near = st.integers(0, min(n, 1000)) | st.integers(max(0, n - 1000), n) | st.integers(0, n)
        i, j = sorted((draw(near), draw(near)))
        match draw(st.sampled_from(["bit", "bytes", "cut", "end", "double", "swap", "hard", "word"])):
            case "bit" if i < n:
                content = content[:i] + bytes([content[i] ^ 1 << draw(st.integers(0, 7))]) + content[i + 1 :]
            case "bytes":
                content = content[:i] + draw(st.binary(max_size=8)) + content[i + 8 :]
            case "cut":
                content = content[:i] + content[j:]
            case "end":
                content = content[:i]
            case "double":
                content = content[:j] + content[i : i + 5000] + content[j:]
            case "swap":
                content = content[j:] + content[i:j] + content[:i]
            case "hard":
                content = content[:i] + draw(st.sampled_from(HARD)) + content[i:]
            case _:
                words = [m.span() for m in re.finditer(rb"[0-9.]+|[A-Za-z_]{2,}|\"[^\"]*\"", content[:20000])]
                if words:
                    a, b = draw(st.sampled_from(words))
                    content = content[:a] + draw(st.sampled_from(HARD)) + content[b:]
    return content
