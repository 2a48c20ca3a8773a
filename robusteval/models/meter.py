"""Meter: what evaluations of a model are booked to."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from robusteval.models.stopwatch import Stopwatch


class Meter:
    """Image evaluations, forward and backward, of each of n images; how many of their answers were not finite, and of
    their gradients not, in any entry; and the time spent in the passes of them all."""

    def __init__(self, n: int) -> None:
        self.forwards = torch.zeros(n, dtype=torch.float64)
        self.backwards = torch.zeros(n, dtype=torch.float64)
        self.non_finite_answers = torch.zeros(n, dtype=torch.float64)
        self.non_finite_gradients = torch.zeros(n, dtype=torch.float64)
        self.stopwatch = Stopwatch()

    @staticmethod
    def add(counts: Tensor, rows: Tensor, evaluated: int) -> None:
        """Book `evaluated` images to `rows`, the same number to each: exact when all were evaluated equally
        often; a library that drops images by itself is shared out evenly. An image may stand in several rows."""
        if len(rows):
            np.add.at(counts.numpy(), rows.numpy(), evaluated / len(rows))

    @staticmethod
    def mark(counts: Tensor, rows: Tensor, bad: Tensor) -> None:
        """Book the evaluations `bad` (M,) bool to the images `rows`: each to its own where a multiple of the rows was
        evaluated, image by image, and shared out evenly where nobody knows whose they are."""
        if len(rows) and len(bad) % len(rows) == 0:
            each = bad.view(len(rows), -1).sum(1)
            np.add.at(counts.numpy(), rows.numpy(), each.cpu().numpy())
        else:
            Meter.add(counts, rows, int(bad.sum()))
