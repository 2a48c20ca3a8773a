"""Plain names: of stages, methods in protocols, figures and files, which become parts of paths."""

from __future__ import annotations

import re
from pathlib import PurePosixPath, PureWindowsPath
from typing import Annotated

from pydantic import AfterValidator

LONGEST_NAME = 150
"""In bytes of UTF-8: with what is put before and behind it, a file's name still."""
_PLAIN = re.compile(r"\w[\w .,+()@=~-]*")
_RESERVED = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)


def plain_name(text: str) -> str:
    """A name that may stand in a path on every system: letters, digits and . , _ - + ( ) @ = ~ or spaces between
    them, at most LONGEST_NAME bytes, nothing that leads elsewhere. Raises ValueError."""
    if not _is_plain(text):
        raise ValueError(
            f"expected a plain name (letters, digits, . _ - + and the like, at most {LONGEST_NAME} bytes, no path)"
        )
    return text


def plain_path(text: str) -> str:
    """A path of plain names below a folder, with / between them. Raises ValueError."""
    if not text or not all(map(_is_plain, text.split("/"))):
        raise ValueError("expected a path of plain names below the run")
    return text


def as_plain_name(text: str, otherwise: str = "model", longest: int = 100) -> str:
    """A foreign name as a plain one of ASCII: what may not stand in it becomes an underscore, and where nothing of a
    name is left or the system keeps it for itself, `otherwise` stands before it."""
    text = re.sub(r"[^A-Za-z0-9._-]", "_", text)[:longest].rstrip(".")
    return text if _is_plain(text) else f"{otherwise}{text}"


def _is_plain(text: str) -> bool:
    return bool(
        len(text) <= LONGEST_NAME
        and _PLAIN.fullmatch(text)
        and len(text.encode()) <= LONGEST_NAME
        and not text.endswith((".", " "))
        and not _RESERVED.fullmatch(text)
    )


PlainName = Annotated[str, AfterValidator(plain_name)]
"""A field that is one."""
PlainPath = Annotated[str, AfterValidator(plain_path)]


def is_below(text: str) -> bool:
    """Whether a relative path stays below the folder that it starts in, on every system: on Windows a \\ separates
    too, and a drive leads elsewhere."""
    path, on_windows = PurePosixPath(text), PureWindowsPath(text)
    elsewhere = path.is_absolute() or on_windows.anchor or ".." in (*path.parts, *on_windows.parts)
    return bool(path.parts) and not elsewhere and "\0" not in text
