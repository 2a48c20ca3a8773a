"""Running other people's attacks: seeded, silent, and without a trace in the state of this process."""

from __future__ import annotations

import logging
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor


@contextmanager
def guarded(seed: int, like: Tensor) -> Iterator[None]:
    """Seed the global generators of torch and numpy, silence logs and warnings; afterwards all is as it was.

    That includes the root logger, which gets a handler from a bare `logging.info`, and the trace function, which
    pyautoattack takes from coverage tools and debuggers.
    """
    devices = [like.device] if like.device.type == "cuda" else []
    numpy_state, trace, silenced = np.random.get_state(), sys.gettrace(), logging.root.manager.disable
    handler = logging.NullHandler()
    logging.root.addHandler(handler)
    logging.disable(logging.CRITICAL)
    try:
        with torch.random.fork_rng(devices), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.manual_seed(seed)
            np.random.seed(seed % 2**32)
            yield
    finally:
        logging.disable(silenced)
        logging.root.removeHandler(handler)
        sys.settrace(trace)
        np.random.set_state(numpy_state)


def or_itself(found: Tensor, images: Tensor, usable: Tensor | None = None) -> Tensor:
    """What a library found (N, C, H, W), clipped to the box; the image where it is not finite or not `usable` (N,)."""
    good = found.isfinite().flatten(1).all(1)
    if usable is not None:
        good &= usable
    return torch.where(good[:, None, None, None], found.detach().to(images).clamp(0, 1), images)
