"""Whether a network can be recorded for a pass back, and passed back through: what is said of one that cannot, as an
UnsupportedError."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType

import torch
from torch import Tensor

from robusteval.core.errors import UnsupportedError, first_line

_SIGNS = ("call numpy() on Tensor", "does not require grad", "Inference tensors cannot be saved")
_AUTOGRAD = "torch.autograd"


@contextmanager
def recorded(name: str) -> Iterator[None]:
    """Raises UnsupportedError where a pass inside cannot be recorded."""
    try:
        yield
    except RuntimeError as error:
        if any(sign in str(error) for sign in _SIGNS):
            raise no_gradient(name, first_line(error)) from error
        raise


@contextmanager
def passed_back(name: str) -> Iterator[None]:
    """Raises UnsupportedError where a pass back inside ends in an error, whoever asked for the pass: a network's own
    backward can raise anything. Errors from elsewhere are let through."""
    try:
        yield
    except (UnsupportedError, torch.cuda.OutOfMemoryError):
        raise
    except Exception as error:
        if not _on_the_way_back(error.__traceback__):
            raise
        raise no_gradient(name, first_line(error)) from error


def _on_the_way_back(trace: TracebackType | None) -> bool:
    while trace is not None:
        if trace.tb_frame.f_code.co_name in ("grad", "backward") and trace.tb_frame.f_globals["__name__"] == _AUTOGRAD:
            return True
        trace = trace.tb_next
    return False


def check_recorded(name: str, output: Tensor) -> Tensor:
    """The output itself. Raises UnsupportedError where it has no graph to go back through."""
    if not output.requires_grad:
        raise no_gradient(name, "outputs without a graph, as under no_grad or behind detach")
    return output


def no_gradient(name: str, found: str) -> UnsupportedError:
    return UnsupportedError(f"expected a model that lets gradients through, got from {name}: {found}")
