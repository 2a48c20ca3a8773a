"""One process at a time at a URL: an object that names its owner, who writes it again as a sign of life. No torch."""

from __future__ import annotations

import json
import os
import platform
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from robusteval.core.errors import UserError
from robusteval.results.lock import LOCK
from robusteval.results.remote import Remote

EVERY = 30.0
"""Seconds between two signs of life."""
GONE_AFTER = 600.0
"""Seconds without one after which the next process takes a URL over; clocks of machines may differ by less than half
of that."""
_BYTES = 10_000


class Owner:
    """This process as the one at work at a URL. `lost` says why it no more is, empty while it is."""

    def __init__(self, remote: Remote, home: Path) -> None:
        self._remote, self.lost = remote, ""
        self._last, self._one = time.time(), threading.Lock()
        self._card = {
            "id": uuid.uuid4().hex,
            "host": platform.node(),
            "machine": f"{platform.node()} {uuid.getnode():x}",
            "folder": str(home),
            "process": os.getpid(),
        }

    def take(self) -> None:
        """Raises UserError where another process is at work there."""
        found = self._found()
        if found is None and self._remote.create(LOCK, self._text()):
            found = self._card
        elif found is None:
            found = self._found() or {}
        if found.get("id") != self._card["id"]:
            # This process holds the local folder, so an owner who worked in it is gone.
            same = all(found.get(key) == self._card[key] for key in ("machine", "folder"))
            if not same and (age := _age(found)) < GONE_AFTER:
                raise UserError(self._refused(found, age))
            self._remote.write(LOCK, self._text())
        # Of two that came at once, where a store lets both write, the later one has it.
        now = self._found() or {}
        if now.get("id") != self._card["id"]:
            raise UserError(self._refused(now, _age(now)))
        self._last = time.time()

    def live(self, ended: threading.Event) -> None:
        """Give signs of life until `ended`."""
        while not self.lost and not ended.wait(EVERY):
            try:
                self._sign()
            except UserError as error:
                if time.time() - self._last > GONE_AFTER / 2:
                    self.lost = str(error)

    def still(self) -> bool:
        """Whether this process is the one at work there. It is looked up where it gave no sign of life for long, as a
        machine that slept. Raises UserError where it cannot be."""
        if not self.lost and abs(time.time() - self._last) > 3 * EVERY:
            self._sign()
        return not self.lost

    def _sign(self) -> None:
        with self._one:
            found = self._found()
            if found is None and self._remote.create(LOCK, self._text()):
                pass  # a hand removed it, while this process lives
            elif (found or {}).get("id") == self._card["id"]:
                self._remote.write(LOCK, self._text())
            else:
                self.lost = self._refused(found or {}, _age(found or {}))
                return
            self._last = time.time()

    def leave(self) -> None:
        """Give it back; where that fails, it counts as left after some time."""
        with suppress(UserError):
            if (self._found() or {}).get("id") == self._card["id"]:
                self._remote.remove(LOCK)

    def _found(self) -> dict[str, Any] | None:
        content = self._remote.read(LOCK, _BYTES)
        if content is None:
            return None
        try:
            card = json.loads(content)
        except ValueError:
            return {}
        return card if isinstance(card, dict) else {}

    def _text(self) -> bytes:
        return json.dumps({**self._card, "time": datetime.now(UTC).isoformat(timespec="seconds")}).encode()

    def _refused(self, card: dict[str, Any], age: float) -> str:
        who = f"process {card.get('process', 'unknown')} on {card.get('host', 'an unknown machine')}"
        return (
            f"expected {self._remote.url} for this command alone, got another that is at work there ({who}, last sign "
            f"of life {max(0, age):.0f} s ago); wait until it ends. One that was killed is taken over "
            f"{GONE_AFTER / 60:.0f} minutes after that, or now where you remove {self._remote.url}/{LOCK}"
        )


@contextmanager
def owning(remote: Remote, home: Path) -> Iterator[Owner]:
    """Holds a URL for this process alone; `home` is the local folder, which the caller holds. Raises UserError."""
    owner, ended = Owner(remote, home), threading.Event()
    owner.take()
    beating = threading.Thread(target=owner.live, args=(ended,), daemon=True)
    beating.start()
    try:
        yield owner
    finally:
        ended.set()
        beating.join()
        owner.leave()


def _age(card: dict[str, Any]) -> float:
    """Seconds since the last sign of life of an owner; of one that cannot be read, as if it were now."""
    try:
        return (datetime.now(UTC) - datetime.fromisoformat(str(card["time"]))).total_seconds()
    except (KeyError, ValueError, TypeError):
        return 0.0
