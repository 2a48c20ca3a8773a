"""Files put at a URL in a thread, while the audit that wrote them goes on. Imports no torch."""

from __future__ import annotations

import threading
from pathlib import Path

from robusteval.results.atomic import NotWrittenError
from robusteval.results.manifest import NAME
from robusteval.results.mirror import Mirror
from robusteval.results.owner import Owner
from robusteval.results.remote import is_of_run


class Pusher:
    """Puts files at a URL while the caller goes on: those that it was told of, in their order as far as it matters."""

    def __init__(self, mirror: Mirror, owner: Owner) -> None:
        self._mirror, self._owner = mirror, owner
        self._told: list[tuple[str, bool]] = []
        self._change, self._ended, self._error = threading.Condition(), False, ""
        self._thread = threading.Thread(target=self._push, daemon=True)
        self._thread.start()

    def tell(self, path: Path) -> None:
        """A file got its name, or lost it. Raises NotWrittenError where an earlier one could not be put."""
        self._check()
        name, is_there = path.relative_to(self._mirror.folder).as_posix(), path.exists()
        if not is_of_run(name):
            return
        with self._change:
            self._told.append((name, is_there))
            self._change.notify()

    def end(self) -> None:
        """Wait until all is there. Raises NotWrittenError where it is not."""
        with self._change:
            self._ended = True
            self._change.notify()
        self._thread.join()
        self._check()

    def _check(self) -> None:
        if said := self._error or self._owner.lost:
            raise NotWrittenError(said)

    def _push(self) -> None:
        while True:
            with self._change:
                self._change.wait_for(lambda: self._told or self._ended)
                if not self._told:
                    return
                # What was told before a manifest is there before it, and what was told after it is not.
                last = next((i for i, (name, _) in enumerate(self._told) if Path(name).name == NAME), len(self._told))
                group, self._told = self._told[: last + 1], self._told[last + 1 :]
            try:
                if not self._owner.still():
                    return
                self._mirror.put([name for name, _ in group], {name for name, is_there in group if not is_there})
            except Exception as error:
                self._error = str(error) or repr(error)
                return
