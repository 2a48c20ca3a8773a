"""A worker process: it is given the models once, then one shard after another, and tells their parts.

It hears two pickles for each shard: the models (empty where they are those that it has), and the stage with the shard.
It tells ("ready",) once, then ("moved", done, total) while it works, and ("part", part, seconds) or ("error", error,
whether memory ran out) when a shard is done. It writes nothing. It ends when nobody is left to tell.
"""

from __future__ import annotations

import os
import pickle
import signal
import time
from collections.abc import Sequence
from contextlib import suppress
from multiprocessing.connection import Connection
from multiprocessing.process import parent_process
from pathlib import Path
from threading import Thread
from typing import Any

import torch

from robusteval.auditing.endings import portable
from robusteval.auditing.engines import Work
from robusteval.auditing.stages.base import Context
from robusteval.core.errors import UserError, first_line
from robusteval.core.memory import is_out_of_memory
from robusteval.core.user_code import load_file


def serve(connection: Connection, threads: int, files: Sequence[Path]) -> None:
    """Work on `threads` cores until the connection ends; `files` are the user's Python files that were run."""
    # A Ctrl-C is for the process that writes; it ends this one.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    Thread(target=_end_with_parent, daemon=True).start()
    torch.set_num_threads(threads)
    for file in files:
        with suppress(UserError):  # of another model, and gone; what this one lacks is told when it comes
            load_file(file)
    context: Context | None = None
    _tell(connection, "ready")
    while True:
        try:
            models, task = connection.recv_bytes(), connection.recv_bytes()
        except (EOFError, OSError):
            return
        try:
            context = _received(models) if models else context
            stage, shard = _received(task)
            assert context is not None
            start = time.perf_counter()
            part = Work(stage, context)(shard, lambda done, total: _tell(connection, "moved", done, total))
            said: tuple[Any, ...] = "part", part, time.perf_counter() - start
        except Exception as error:
            said = "error", portable(error), is_out_of_memory(error)
        _tell(connection, *said)


def _received(pickled: bytes) -> Any:
    try:
        return pickle.loads(pickled)
    except Exception as error:
        if is_out_of_memory(error):
            raise
        found = first_line(error)
        raise UserError(f"expected what --workers can send to another process, got: {found}; leave it out") from error


def _tell(connection: Connection, *said: Any) -> None:
    connection.send_bytes(pickle.dumps(said, pickle.HIGHEST_PROTOCOL))


def _end_with_parent() -> None:
    """A process that was killed does not end its workers."""
    parent = parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
