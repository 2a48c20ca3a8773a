"""The files of a run at a URL, by whatever file system fsspec has for it: listed, brought, put and removed, with what
goes wrong said in one line. What lies there is data that others may have made. Imports no torch."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from robusteval.core.errors import UserError, first_line
from robusteval.core.plain_names import plain_path
from robusteval.models.extras import imported
from robusteval.results.atomic import NotWrittenError

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://.*", re.DOTALL)
_KINDS = (".json", ".parquet", ".safetensors", ".csv", ".html", ".md", ".tex", ".txt", ".svg", ".png", ".pdf")
_DEEPEST = 5
"""NAME/tables/report/FILE, and one more."""


def is_url(place: object) -> bool:
    """Whether a place is a URL, and no path of this system. Raises UserError for one that was made a Path, which takes
    one of its slashes away."""
    if isinstance(place, Path) and re.match(r"[A-Za-z][A-Za-z0-9+.-]+:/", place.as_posix()):
        raise UserError(f"expected a URL as text, or a path, got the Path {place}")
    return isinstance(place, str) and _URL.fullmatch(place) is not None


def is_of_run(name: str) -> bool:
    """Whether a file of that path below a run, or below a folder of runs, can be one of theirs."""
    if not name.endswith(_KINDS) or name.count("/") >= _DEEPEST:
        return False
    try:
        return bool(plain_path(name))
    except ValueError:
        return False


class GoneError(UserError):
    """A file that was listed at a URL is no more there."""


@dataclass(frozen=True)
class Stored:
    """A file at a URL: its bytes, and what the store says that changes with its content; empty if nothing."""

    size: int
    tag: str


class Remote:
    """A folder at a URL. Every method raises UserError, and those that change something NotWrittenError, which says
    that what was computed is kept in the local folder `kept`."""

    def __init__(self, url: str, kept: Path) -> None:
        self.url, self.kept = url.rstrip("/"), kept
        self._system, root = _opened(self.url)
        self._root = root.rstrip("/")

    def files(self) -> dict[str, Stored]:
        """The files of runs that lie there, by their paths below the URL; none where nothing is."""
        with self._reading():
            self._system.invalidate_cache()
            try:
                listed = self._system.find(self._root, detail=True)
            except FileNotFoundError:
                return {}
        start = f"{self._root}/"
        below = {path[len(start) :]: info for path, info in listed.items() if path.startswith(start)}
        return {name: Stored(int(info.get("size") or 0), _tag(info)) for name, info in below.items() if is_of_run(name)}

    def get(self, name: str, path: Path) -> None:
        """Bring a file into a path. Raises GoneError where it is gone."""
        with self._reading():
            try:
                self._system.get_file(self._at(name), str(path))
            except FileNotFoundError:
                raise GoneError(f"expected {self.url}/{name}, got none") from None

    def put(self, name: str, path: Path) -> None:
        with self._writing(name):
            self._system.put_file(str(path), self._at(name))

    def remove(self, name: str) -> None:
        """Also where it is gone already."""
        with self._writing(name), suppress(FileNotFoundError):
            self._system.rm_file(self._at(name))

    def read(self, name: str, most: int) -> bytes | None:
        """The first bytes of a file; None where there is none."""
        with self._reading():
            self._system.invalidate_cache()
            try:
                content: bytes = self._system.cat_file(self._at(name), start=0, end=most)
            except FileNotFoundError:
                return None
            return content

    def write(self, name: str, content: bytes) -> None:
        with self._writing(name):
            self._system.pipe_file(self._at(name), content)

    def create(self, name: str, content: bytes) -> bool:
        """Write a file that is not there. False where it is, as far as the store can tell at once."""
        with self._writing(name):
            try:
                self._system.pipe_file(self._at(name), content, mode="create")
            except FileExistsError:
                return False
            except (TypeError, NotImplementedError):
                self._system.pipe_file(self._at(name), content)
        return True

    def _at(self, name: str) -> str:
        return f"{self._root}/{name}"

    @contextmanager
    def _reading(self) -> Iterator[None]:
        try:
            yield
        except (MemoryError, UserError):
            raise
        except Exception as error:  # what stores and networks raise is of all kinds
            raise UserError(f"expected to read {self.url}, got: {_why(error)}") from error

    @contextmanager
    def _writing(self, name: str) -> Iterator[None]:
        try:
            yield
        except MemoryError:
            raise
        except Exception as error:
            raise NotWrittenError(
                f"expected to write {self.url}/{name}, got: {_why(error)}; what was computed is kept in {self.kept}, "
                "and the same command pushes the rest and continues when that is mended"
            ) from error


def _opened(url: str) -> tuple[Any, str]:
    """The file system of a URL, and the path in it."""
    from fsspec.core import url_to_fs

    if "://" not in url:
        raise UserError(f"expected a URL with a place in it, such as s3://bucket/run, got {url}//")
    if url.startswith("s3://"):
        imported("s3fs", "s3", f"for {url}")
    try:
        system, path = url_to_fs(url)
    except ImportError as error:
        raise UserError(f"expected a package for {url}, got none: {first_line(error)}") from None
    except Exception as error:
        raise UserError(f"expected a URL that fsspec opens, got {url}: {first_line(error)}") from error
    return system, str(path)


def _tag(info: dict[str, Any]) -> str:
    named = (info.get(key) for key in ("ETag", "etag", "md5Hash", "LastModified", "created", "mtime"))
    return next((str(value).strip('"') for value in named if value), "")


def _why(error: Exception) -> str:
    said = error.strerror if isinstance(error, OSError) and error.strerror else first_line(error)
    return said if said != type(error).__name__ else f"{said} (nothing more is said)"
