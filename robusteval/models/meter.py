"""Meter: what evaluations of a model are booked to."""

from __future__ import annotations

import torch
from torch import Tensor

from robusteval.models.stopwatch import Stopwatch


class Meter:
    """Image evaluations, forward and backward, of each of n images, and the time spent in the passes of them all."""

    def __init__(self, n: int) -> None:
        self.forwards = torch.zeros(n, dtype=torch.float64)
        self.backwards = torch.zeros(n, dtype=torch.float64)
        self.stopwatch = Stopwatch()

    @staticmethod
    def add(counts: Tensor, rows: Tensor, evaluated: int) -> None:
        """Book `evaluated` images to `rows`, the same number to each: exact when all were evaluated equally
        often; a library that drops images by itself is shared out evenly."""
        if len(rows):
            counts.numpy()[rows.numpy()] += evaluated / len(rows)
