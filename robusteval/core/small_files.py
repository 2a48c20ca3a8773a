"""Small files of text, read whole: bounded, and regular files only."""

from __future__ import annotations

from pathlib import Path

from robusteval.core.errors import UserError


def read_small(path: Path, what: str, most: int) -> bytes:
    """What is in a regular file of at most `most` bytes; `what` names it in errors, such as "a TOML file". Pipes and
    devices are not opened. Raises UserError; FileNotFoundError where there is none."""
    try:
        if path.exists() and not path.is_file():
            raise UserError(f"expected {what} in {path}, got a folder, a pipe or a device")
        with path.open("rb") as file:
            found = file.read(most + 1)
    except FileNotFoundError:
        raise
    except (OSError, ValueError) as error:
        if isinstance(error, UserError):
            raise
        why = error.strerror if isinstance(error, OSError) else str(error)
        raise UserError(f"expected {what} in {path}, got: {why}") from error
    if len(found) > most:
        raise UserError(f"expected {what} of at most {most:,} bytes in {path}, got a larger one")
    return found
