"""Where a run is kept: a directory, or a URL by way of a local folder that mirrors it. Imports no torch."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from robusteval.core.errors import UserError
from robusteval.core.plain_names import as_plain_name
from robusteval.results.atomic import following
from robusteval.results.lock import HeldError, locked
from robusteval.results.mirror import Mirror
from robusteval.results.owner import owning
from robusteval.results.pusher import Pusher
from robusteval.results.remote import Remote, is_url


@contextmanager
def working_at(place: str | Path) -> Iterator[Path]:
    """The directory to work in for a run or several at a place; of a path that is the path itself.

    Of a URL it is a folder in the user's cache directory: what lies at the URL is brought there first, each file goes
    to the URL as soon as it has its name, and all of them do before this ends, however it ends. Another process at the
    same URL is refused. Raises UserError; NotWrittenError where something could not be put, and stays in the folder.
    """
    if (path := _as_path(place)) is not None:
        yield path
        return
    mirror, home = _mirror_of(str(place))
    with locked(home), owning(mirror.remote, home) as owner:
        mirror.bring()
        mirror.put()
        pusher = Pusher(mirror, owner)
        try:
            with following(mirror.folder, pusher.tell):
                yield mirror.folder
        finally:
            pusher.end()
            mirror.settle()


def brought(place: str | Path) -> Path:
    """The directory with the run or the runs of a place, to read them: what lies at a URL is brought into a folder in
    the user's cache directory, but where a process of this machine is at work at the URL by way of that folder, which
    has the newest of all. Raises UserError, also where nothing lies at a URL."""
    if (path := _as_path(place)) is not None:
        return path
    mirror, home = _mirror_of(str(place))
    with suppress(HeldError), locked(home):
        mirror.bring()
    if not mirror.folder.exists():
        raise UserError(f"expected a run at {place}, got none")
    return mirror.folder


def _as_path(place: str | Path) -> Path | None:
    """The path that a place is; None of a URL."""
    if not is_url(place):
        return Path(place)
    if str(place).lower().startswith(("file://", "local://")):
        from fsspec.implementations.local import LocalFileSystem

        return Path(LocalFileSystem._strip_protocol(str(place)))
    return None


def _mirror_of(url: str) -> tuple[Mirror, Path]:
    """The mirror of a URL, and the folder that it lies in, which has to be held to change something."""
    url = url.rstrip("/")
    name = as_plain_name(url.rpartition("/")[2], "run")
    kept = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "robusteval" / "runs"
    home = kept.absolute() / f"{name}-{hashlib.sha256(url.encode()).hexdigest()[:16]}"
    return Mirror(home / name, Remote(url, home / name), home / "seen.jsonl"), home
