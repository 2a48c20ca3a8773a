"""A local folder and what lies at a URL, kept alike: what changed there is brought, what changed here is put there, in
an order that a reader can be stopped at any time and finds no main part without the files beside it. No torch."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Collection, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from hashlib import md5
from itertools import groupby
from pathlib import Path

from robusteval.core.errors import UserError
from robusteval.results.atomic import NotWrittenError, atomically, writing
from robusteval.results.below import write_below
from robusteval.results.manifest import NAME, read_manifest
from robusteval.results.remote import GoneError, Remote, Stored, is_of_run

_AT_ONCE = 8
"""Files that are brought or put at the same time."""
_MAIN = re.compile(r"(.*/)?parts/[^/]+/[^/.]+\.parquet")


@dataclass(frozen=True)
class Seen:
    """A file as it was when here and there were alike: its bytes and time here, and its tag there, empty where that is
    not known yet."""

    size: int
    time: int
    tag: str = ""


_GONE = Seen(-1, 0)


class Mirror:
    """A local folder as the mirror of a URL. The caller holds the folder. `journal` is a file beside it that knows what
    was alike last, so that what changed since is told here from there."""

    def __init__(self, folder: Path, remote: Remote, journal: Path) -> None:
        self.folder, self.remote, self._journal = folder, remote, journal
        self._seen: dict[str, Seen] = {}

    def bring(self) -> None:
        """Whatever is new or other at the URL comes here; what is gone there and was seen there is removed here. A file
        that was changed here alone stays as it is, unless a run of another request lies there now. Raises UserError."""
        there, here, self._seen = self.remote.files(), self._here(), _read(self._journal)
        if there and not any(name == NAME or name.endswith(f"/{NAME}") for name in there):
            raise UserError(f"expected a run, or a place that is free, at {self.remote.url}, which holds other things")
        if self._seen and not there:
            raise UserError(
                f"expected at {self.remote.url} the run that was there, got nothing; its copy is in {self.folder}, "
                "remove that to begin anew"
            )
        gone = {name for name in here if name not in there and name in self._seen}
        for manifest in there.keys() & here:
            if Path(manifest).name == NAME and self._differs(manifest, there, here) and self._is_another(manifest):
                gone |= {name for name in here if name.startswith(manifest.removesuffix(NAME))}
        for name in gone:
            (self.folder / name).unlink(missing_ok=True)
            self._seen.pop(name, None)
        self._get([name for name in there if self._differs(name, there, here - gone)], there)
        self._note(there)

    def put(self, names: Iterable[str] | None = None, removed: Collection[str] = ()) -> None:
        """Of these files, or of all, those that are new or other here go there, and those that are gone here, or were
        `removed` and may be there again, are removed there before: the files beside a main part are put before it, the
        manifests last; removed the other way round. Raises NotWrittenError."""
        asked = {*self._here(), *self._seen} if names is None else {*names}
        now = {name: _stamp(self.folder / name) for name in asked}
        gone = [name for name, stamp in now.items() if (stamp is None or name in removed) and name in self._seen]
        for _, several in groupby(sorted(gone, key=_rank, reverse=True), _rank):
            self._each(self.remote.remove, list(several))
        for name in gone:
            del self._seen[name]
        _append(self._journal, dict.fromkeys(gone, _GONE))
        changed = {n: s for n, s in now.items() if s and (s.size, s.time) != self._known(n)}
        for _, several in groupby(sorted(changed, key=_rank), _rank):
            self._each(self._put, together := list(several))
            self._seen |= {name: changed[name] for name in together}
            _append(self._journal, {name: changed[name] for name in together})

    def settle(self) -> None:
        """Put the rest, and note what is alike now. Raises UserError."""
        self.put()
        self._note(self.remote.files())

    def _is_another(self, manifest: str) -> bool:
        """Whether that of the URL is of another run than that of the folder."""
        probe = self._journal.with_name("another.json")
        with suppress(GoneError):
            self.remote.get(manifest, probe)
            return _identity(probe) != _identity(self.folder / manifest)
        return False

    def _differs(self, name: str, there: dict[str, Stored], here: Collection[str]) -> bool:
        """Whether a file is to be brought: missing here, or changed there since it was seen."""
        found, seen = there[name], self._seen.get(name)
        if name not in here:
            return True
        if seen and seen.tag and seen.tag == found.tag:
            return False
        # Many stores name the content by this checksum. What is alike is not brought again.
        path = self.folder / name
        return not (path.stat().st_size == found.size and _md5(path) == found.tag)

    def _get(self, names: list[str], there: dict[str, Stored]) -> None:
        def get(name: str) -> None:
            # A file that is gone since it was listed is as if it had not been there.
            with suppress(GoneError):
                write_below(self.folder, name, lambda temporary: self.remote.get(name, temporary))

        self._each(get, names)
        for name in names:
            if stamp := _stamp(self.folder / name):
                self._seen[name] = replace(stamp, tag=there[name].tag)

    def _put(self, name: str) -> None:
        try:
            self.remote.put(name, self.folder / name)
        except NotWrittenError:
            # Removed since; whoever did tells that too.
            if (self.folder / name).exists():
                raise

    def _each(self, act: Callable[[str], None], names: list[str]) -> None:
        if names:
            with ThreadPoolExecutor(min(_AT_ONCE, len(names))) as several:
                list(several.map(act, names))

    def _known(self, name: str) -> tuple[int, int] | None:
        return (seen.size, seen.time) if (seen := self._seen.get(name)) else None

    def _here(self) -> set[str]:
        """The files of runs in the folder."""
        found = set()
        for inside, _, files in os.walk(self.folder):
            found |= {(Path(inside) / name).relative_to(self.folder).as_posix() for name in files}
        return {name for name in found if is_of_run(name)}

    def _note(self, there: dict[str, Stored]) -> None:
        """Keep of what was seen what is still there, with its tag where it lies there as it was put."""
        seen = {}
        for name, found in there.items():
            stamp = self._seen.get(name)
            if stamp and (stamp.tag or stamp.size == found.size):
                seen[name] = replace(stamp, tag=stamp.tag or found.tag)
            elif (own := _stamp(self.folder / name)) and own.size == found.size:
                seen[name] = replace(own, tag=found.tag)
        self._seen = seen
        lines = "".join(_line(name, stamp) for name, stamp in seen.items())
        atomically(self._journal, lambda temporary: temporary.write_text(lines, encoding="utf-8", newline="\n"))


def _rank(name: str) -> int:
    """When a file is put: what others rest on first."""
    return 2 if Path(name).name == NAME else 1 if _MAIN.fullmatch(name) else 0


def _stamp(path: Path) -> Seen | None:
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    return Seen(status.st_size, status.st_mtime_ns)


def _identity(manifest: Path) -> tuple[object, ...]:
    """Which run a manifest is of; nothing where none can be read."""
    try:
        m = read_manifest(manifest)
    except UserError:
        return ()
    return m.started, m.seed, m.model.fingerprint, m.data.fingerprint


def _md5(path: Path) -> str:
    with path.open("rb") as file:
        digest = md5(usedforsecurity=False)
        while block := file.read(2**20):
            digest.update(block)
    return digest.hexdigest()


def _line(name: str, seen: Seen) -> str:
    return json.dumps([name, seen.size, seen.time, seen.tag]) + "\n"


def _append(journal: Path, seen: dict[str, Seen]) -> None:
    with writing(journal), journal.open("a", encoding="utf-8", newline="\n") as file:
        file.write("".join(_line(name, stamp) for name, stamp in seen.items()))


def _read(journal: Path) -> dict[str, Seen]:
    """What a journal knows; of a line that was cut by a kill nothing."""
    seen = {}
    with suppress(OSError):
        for line in journal.read_text(encoding="utf-8", errors="replace").splitlines():
            with suppress(ValueError, TypeError):
                name, size, time, tag = json.loads(line)
                seen[name] = Seen(int(size), int(time), str(tag))
    return {name: stamp for name, stamp in seen.items() if stamp != _GONE}
