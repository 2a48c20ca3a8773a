"""A worker process: it is given the models once, then one shard after another, and tells their parts (crew.py).

It hears two pickles for each shard: the models (empty where they are those that it has), and the stage with the shard.
It writes nothing. It ends when nobody is left to tell.
"""

from __future__ import annotations

import os
import pickle
import signal
from multiprocessing.connection import Connection
from multiprocessing.process import parent_process
from threading import Thread

from robusteval.auditing.holder import Holder


def serve(connection: Connection, threads: int) -> None:
    """Work on `threads` cores until the connection ends."""
    # A Ctrl-C is for the process that writes; it ends this one.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    Thread(target=_end_with_parent, daemon=True).start()
    holder = Holder(threads)
    _tell(connection, "ready")
    while True:
        try:
            models, task = connection.recv_bytes(), connection.recv_bytes()
        except (EOFError, OSError):
            return
        _tell(connection, *holder.said(models, task, lambda done, total: _tell(connection, "moved", done, total)))


def _tell(connection: Connection, *said: object) -> None:
    connection.send_bytes(pickle.dumps(said, pickle.HIGHEST_PROTOCOL))


def _end_with_parent() -> None:
    """A process that was killed does not end its workers."""
    parent = parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
