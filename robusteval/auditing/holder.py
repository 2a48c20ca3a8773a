"""What a worker is, in a process or an actor: it holds the models, and computes one shard after another."""

from __future__ import annotations

import pickle
import time
from contextlib import suppress
from typing import Any

import torch

from robusteval.auditing.crew import Said
from robusteval.auditing.endings import portable
from robusteval.auditing.engines import Work
from robusteval.auditing.stages.base import Context, unheard
from robusteval.core.errors import UserError, first_line
from robusteval.core.memory import is_out_of_memory
from robusteval.core.methods import Step
from robusteval.core.user_code import run_again


class Holder:
    """Works with so many threads."""

    def __init__(self, threads: int) -> None:
        torch.set_num_threads(threads)
        self._context: Context | None = None

    def said(self, models: bytes, task: bytes, step: Step = unheard) -> Said:
        """What there is to tell of a shard (crew.py). models: the user's files that were run and the context, pickled,
        empty where it has them; task: the pickled stage and shard."""
        try:
            if models:
                files, packed = pickle.loads(models)
                for file in files:
                    with suppress(UserError):  # of another model; what this one lacks is told when it comes
                        run_again(file)
                self._context = _received(packed)
            stage, shard = _received(task)
            assert self._context is not None
            start = time.perf_counter()
            part = Work(stage, self._context)(shard, step)
            return "part", part, time.perf_counter() - start
        except Exception as error:
            return "error", portable(error), is_out_of_memory(error)


def _received(pickled: bytes) -> Any:
    try:
        return pickle.loads(pickled)
    except Exception as error:
        if is_out_of_memory(error):
            raise
        found = first_line(error)
        raise UserError(
            f"expected what can be sent to another process, got: {found}; leave --workers and --engine out"
        ) from error
