"""A Ray cluster to compute on: the connection to it, and how many workers it has room for.

Ray is an extra, imported when it is asked for. What it would write into the terminal is turned off before; its logs lie
where Ray puts them.
"""

from __future__ import annotations

import logging
import os
import secrets
import socket
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from robusteval.core.errors import UserError, first_line
from robusteval.models.extras import imported

LOCAL = "local"
_QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_DEDUP_LOGS_SKIP_REGEX": ".",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "GRPC_VERBOSITY": "ERROR",
}
"""Nothing is reported to anybody, no line of the nodes is repeated here. A user's own settings stay."""
_TOKEN = secrets.token_hex(32)
"""A cluster of one's own listens on the network, and runs what it is sent: only by who has this."""


@contextmanager
def connected(address: str | None) -> Iterator[Any]:
    """The package ray, connected to the cluster at `address` ("auto", "host:port", "ray://host:port"), or to one on
    this machine that ends with the block; where the caller has connected it, to that. Raises UserError."""
    own = address in (None, LOCAL)
    if "ray" not in sys.modules:  # which reads them once
        token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": _TOKEN}
        os.environ |= _QUIET | (token if own and "RAY_AUTH_MODE" not in os.environ else {}) | os.environ
    ray = imported("ray", "ray", "for --engine ray")
    if ray.is_initialized():
        yield ray
        return
    if not own and os.environ.get("RAY_AUTH_TOKEN") == _TOKEN:
        raise UserError(f"expected --address {address} before a Ray cluster of this process alone; start Python anew")
    try:
        _knock(address or LOCAL)
        ray.init(address or LOCAL, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    except (RuntimeError, ValueError, OSError, TimeoutError) as error:
        raise UserError(f"expected a Ray cluster at --address {address or LOCAL}, got: {first_line(error)}") from error
    try:
        yield ray
    finally:
        ray.shutdown()


def _knock(address: str) -> None:
    """Raises OSError where nobody listens at HOST:PORT, for which Ray waits minutes."""
    host, _, port = address.rpartition("://")[2].rpartition(":")
    if port.isdigit():
        socket.create_connection((host, int(port)), timeout=10).close()


@dataclass(frozen=True)
class Room:
    """How many workers, and what each one has."""

    workers: int
    threads: int
    gpus: int = 0


def room(nodes: Sequence[Mapping[str, float]], threads: int, gpu: bool, workers: int | None = None) -> Room:
    """The workers on nodes with such resources ("CPU", "GPU"), which are those that are asked for, or else as many as
    there are GPUs, or on CPUs as many as find `threads` each. None has more threads than that, or than a node."""
    cpus = [int(node.get("CPU", 0)) for node in nodes if node.get("CPU", 0) >= 1] or [1]
    if gpu:
        count = workers or max(1, int(sum(node.get("GPU", 0) for node in nodes)))
        return Room(count, max(1, min(threads, sum(cpus) // count)), 1)
    if workers is not None:
        return Room(workers, max(1, min(threads, sum(cpus) // workers, max(cpus))))
    each = min(threads, *cpus)
    return Room(sum(n // each for n in cpus), each)
