"""What may lie in a run at all: folders and regular files. Imports no torch."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from robusteval.core.errors import UserError


def check_own_files(folder: Path) -> None:
    """Raise UserError where a run holds anything but folders and regular files of its own: a link would have another
    file read or written in its place, and a pipe never ends."""
    for inside, folders, files in os.walk(folder):
        for name in (*folders, *files):
            mode = os.lstat(os.path.join(inside, name)).st_mode
            if not (stat.S_ISDIR(mode) or stat.S_ISREG(mode)):
                what = "a link" if stat.S_ISLNK(mode) else "a pipe or a device"
                raise UserError(f"expected folders and files of its own in the run {folder}, got {what}: {name}")
