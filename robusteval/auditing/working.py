"""The engine that an audit asks for: this process, several on this machine, or a Ray cluster."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch

from robusteval.auditing.actors import Actors
from robusteval.auditing.cluster import connected, room
from robusteval.auditing.engines import Engine, local
from robusteval.auditing.workers import Workers
from robusteval.core.device import choose_device
from robusteval.core.errors import UserError

MOST = 256
ENGINES = ("local", "ray")


@contextmanager
def working(
    workers: int | str | None = None,
    device: str = "auto",
    told: Callable[[str], None] = lambda text: None,
    *,
    engine: str = "local",
    address: str | None = None,
) -> Iterator[Engine]:
    """The engine of so many workers, which end with the block; `told` is given a line where one died. Without a number
    it is this process alone, or of a Ray cluster, the one at `address` or else one for this block, what it has room
    for. Raises UserError."""
    if workers is not None and (isinstance(workers, bool) or not isinstance(workers, int) or not 1 <= workers <= MOST):
        raise UserError(f"expected --workers auto, or of at least 1 and at most {MOST}, got {workers}")
    if engine not in ENGINES:
        raise UserError(f"expected --engine {' or '.join(ENGINES)}, got '{engine}'")
    if engine == "ray":
        with _on_ray(workers, device, address, told) as crew:
            yield crew
        return
    if address is not None:
        raise UserError(f"expected --engine ray with --address {address}, got {engine}")
    if workers in (None, 1):
        yield local
        return
    on = choose_device(device)
    if on.type != "cpu":
        raise UserError(f"expected --device cpu with --workers {workers}, got {on}: one process works a GPU")
    processes = Workers(workers, told)
    try:
        yield processes
    finally:
        processes.close()


@contextmanager
def _on_ray(workers: int | None, device: str, address: str | None, told: Callable[[str], None]) -> Iterator[Engine]:
    on = choose_device(device)
    if on.type not in ("cpu", "cuda") or on.index not in (None, 0):
        raise UserError(f"expected --device auto, cpu or cuda with --engine ray, got {on}: Ray gives each its GPU")
    with connected(address) as ray:
        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        share = room(nodes, torch.get_num_threads(), on.type == "cuda", workers)
        actors = Actors(ray, share, on.type, told)
        try:
            yield actors
        finally:
            actors.close()
