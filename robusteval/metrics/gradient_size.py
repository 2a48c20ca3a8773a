"""Gradients of a loss at images as they are, for those who look at them: none where there is none, and which were not
finite."""

from __future__ import annotations

import torch
from torch import Tensor

from robusteval.attacks.search.losses import Goal
from robusteval.core.errors import UnsupportedError
from robusteval.core.norms import flat
from robusteval.models.classifier import Classifier

SIZES = ("gradient_size", "gradient_size_margin")
"""The quantities of largest_entries: of the cross-entropy, of the margin."""


def gradient_rows(classifier: Classifier, pixels: Tensor, goal: Goal) -> tuple[Tensor | None, Tensor]:
    """The gradient at images (N, C, H, W), (N, D), its non-finite entries zero, None where the model lets none through;
    and which had an entry that is not finite, (N,)."""
    counts, rows = classifier.meter.non_finite_gradients, classifier.rows
    before = counts[rows]
    try:
        found = flat(classifier.gradient(pixels, goal)[0])
    except UnsupportedError:
        found = None
    return found, (counts[rows] > before).to(pixels.device)


def largest_entries(rows: Tensor | None, broken: Tensor) -> Tensor:
    """The largest absolute entry of each gradient (N, D), (N,): infinite if any was not finite, NaN where there is no
    gradient."""
    if rows is None:
        return torch.full(broken.shape, torch.nan, dtype=torch.float64, device=broken.device)
    return rows.abs().amax(1).double().masked_fill(broken, torch.inf)
