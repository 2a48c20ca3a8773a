"""Whether a network can be recorded for a pass back: what torch says of one that cannot, as an UnsupportedError."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import Tensor

from robusteval.core.errors import UnsupportedError, first_line

_SIGNS = (
    *("call numpy() on Tensor", "does not require grad", "Inference tensors cannot be saved"),
    *("derivative for ", "You must implement either the backward"),
)


@contextmanager
def recorded(name: str) -> Iterator[None]:
    """Raises UnsupportedError where a pass inside cannot be recorded, or not go back."""
    try:
        yield
    except RuntimeError as error:
        if any(sign in str(error) for sign in _SIGNS):
            raise no_gradient(name, first_line(error)) from error
        raise


def check_recorded(name: str, output: Tensor) -> Tensor:
    """The output itself. Raises UnsupportedError where it has no graph to go back through."""
    if not output.requires_grad:
        raise no_gradient(name, "outputs without a graph, as under no_grad or behind detach")
    return output


def no_gradient(name: str, found: str) -> UnsupportedError:
    return UnsupportedError(f"expected a model that lets gradients through, got from {name}: {found}")
