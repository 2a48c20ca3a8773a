"""The batch size at which a model is fastest on its device, and how many batches make a shard."""

from __future__ import annotations

import json
import math
import os
import time
from dataclasses import dataclass
from pathlib import Path

import torch

from robusteval.core.device import describe
from robusteval.core.errors import UnsupportedError
from robusteval.models.classifier import Classifier
from robusteval.results.atomic import atomically

DTYPES = {"float32": torch.float32, "float64": torch.float64}
_SIZES = (8, 16, 32, 64, 128, 256, 512, 1024, 2048)
_GAIN = 1.05
"""How much faster per image a larger batch must be to be worth its memory."""
_SHARD = 0.2
"""Seconds of passes forward and back of all images of a shard, at most: then a stage of ten evaluations takes seconds,
and its files some hundredths of one."""
_SHARDS = 32
"""At least so many in a set, unless a batch is more: what a killed audit loses, and what several processes share."""


@dataclass(frozen=True)
class Throughput:
    """A batch size, and the seconds of a pass forward and back of an image in such a batch."""

    batch_size: int
    seconds: float

    def batches(self, images: int) -> int:
        """How many batches a shard of a set of so many images takes, so that its files cost little beside its work, and
        its loss, too."""
        most = min(_SHARD / max(self.seconds, 1e-9), images / _SHARDS)
        return max(1, int(most // self.batch_size))


def best_throughput(classifier: Classifier, device: torch.device, dtype: torch.dtype) -> Throughput:
    """The batch size with the best throughput of forward and backward passes, measured for about a second.

    The answer is remembered per model and machine in the user's cache directory, so that two audits of one
    model cut their images alike and agree to the last bit.
    """
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "robusteval" / "throughput.json"
    key = f"{classifier.fingerprint} {dtype} {describe(device)}"
    try:
        known = json.loads(cache.read_text(encoding="utf-8"))
        if key in known:
            return Throughput(int(known[key][0]), float(known[key][1]))
    except (OSError, ValueError, TypeError, IndexError):
        known = {}
    found = measured_throughput(classifier, device, dtype)
    try:
        text = json.dumps({**known, key: [found.batch_size, found.seconds]}, indent=1)
        atomically(cache, lambda temporary: temporary.write_text(text, encoding="utf-8", newline="\n"))
    except OSError:
        pass
    return found


def measured_throughput(
    classifier: Classifier, device: torch.device, dtype: torch.dtype, seconds: float = 1.0
) -> Throughput:
    """The best one, measured for about so many seconds and not remembered."""
    best, best_rate = _SIZES[0], 0.0
    for size in _SIZES:
        x = torch.full((size, *classifier.input_shape), 0.5, device=device, dtype=dtype)
        try:
            _pass_seconds(classifier, x)
            times = [_pass_seconds(classifier, x)]
            while sum(times) < seconds / len(_SIZES) and len(times) < 20:
                times.append(_pass_seconds(classifier, x))
        except Exception:
            # Out of memory, or a model that refuses these images: the audit meets it where it can be told.
            break
        rate = size / min(times)
        if rate > best_rate * _GAIN:
            best, best_rate = size, rate
        if rate < best_rate / 1.5 or times[0] > seconds:
            break
    return Throughput(best, 1 / best_rate if best_rate else math.inf)


def _pass_seconds(classifier: Classifier, x: torch.Tensor) -> float:
    start = time.perf_counter()
    try:
        classifier.gradient(x, lambda logits: logits[:, 0])[0].sum().item()
    except UnsupportedError:
        classifier.predict(x).sum().item()
    return time.perf_counter() - start
