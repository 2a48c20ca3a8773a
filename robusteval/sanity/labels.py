"""Labels that do not fit the predictions: accuracy at chance, a permutation of the classes, a single class."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from scipy.stats import binomtest

from robusteval.sanity.warning import SanityWarning, in_percent

SIGNIFICANT = 0.01
"""Ours. Largest p-value of the exact tests."""
FEW = 10
"""Ours. Below so many images neither chance nor one class says anything."""
SHOWN = 10
"""Of the classes of a permutation, how many are named."""


def guessing(images: pd.DataFrame, num_classes: int) -> Iterator[SanityWarning]:
    """Clean accuracy that an exact binomial test (one-sided, at SIGNIFICANT) cannot tell from guessing, which is right
    on 1 / K of the images, or that lies below it; not where most images are right."""
    n, right = len(images), int(images["correct"].sum())
    if n < FEW:
        return
    p = binomtest(right, n, 1 / num_classes, alternative="greater").pvalue
    if p > SIGNIFICANT and right / n < (1 + 1 / num_classes) / 2:
        yield SanityWarning(
            "chance-accuracy",
            "The clean accuracy is that of guessing",
            f"{right:,} of {n:,} images are right ({in_percent(right / n)}); guessing among {num_classes:,} classes is "
            f"right on {in_percent(1 / num_classes)} (exact binomial test: p = {p:.2g}).",
            "Check that the weights belong to the architecture, the normalisation (--mean, --std), the order of the "
            "channels, and which number each class has (--classes).",
        )


def permuted(images: pd.DataFrame, names: Sequence[str]) -> Iterator[SanityWarning]:
    """Labels that a permutation of the classes explains better: it is chosen on every other image and tested on the
    others, both ways round (McNemar's exact test, one-sided, at SIGNIFICANT), so that it cannot fit noise."""
    label, predicted = (images[c].to_numpy(np.int64) for c in ("label", "predicted"))
    n, k = len(images), len(names)
    half = np.arange(n) % 2 == 0
    mapped = np.empty(n, np.int64)
    for known in (half, ~half):
        mapped[~known] = _assignment(label[known], predicted[known], k)[label[~known]]
    gained = int(((mapped == predicted) & (label != predicted)).sum())
    lost = int(((mapped != predicted) & (label == predicted)).sum())
    if gained <= lost or binomtest(gained, gained + lost, 0.5, alternative="greater").pvalue > SIGNIFICANT:
        return
    whole = _assignment(label, predicted, k)
    moved = [c for c in np.unique(label) if whole[c] != c]
    if not moved:
        return
    listed = ", ".join(f"{names[c]} is predicted as {names[whole[c]]}" for c in moved[:SHOWN])
    more = f" and {len(moved) - SHOWN} more" if len(moved) > SHOWN else ""
    now, then = float((label == predicted).mean()), float((whole[label] == predicted).mean())
    yield SanityWarning(
        "permuted-labels",
        "The labels seem to be numbered in another order than the model's classes",
        f"{in_percent(now)} are right with the labels as they are, {in_percent(then)} with another order: "
        f"{listed}{more}.",
        "Give the order of the model's classes with --classes FILE, one name a line, or rename the folders.",
    )


def one_class(images: pd.DataFrame, names: Sequence[str]) -> Iterator[SanityWarning]:
    """One class for every image, of whatever label."""
    if len(images) >= FEW and images["predicted"].nunique() == 1 and images["label"].nunique() > 1:
        only = names[int(images["predicted"].iloc[0])]
        yield SanityWarning(
            "one-class",
            "The model predicts one class for every image",
            f"All {len(images):,} images, of {images['label'].nunique():,} labels, are predicted as {only}.",
            "Check the weights and the normalisation (--mean, --std): images far outside the range that a network was "
            "trained on look all alike to it.",
        )


def _assignment(label: NDArray[np.int64], predicted: NDArray[np.int64], k: int) -> NDArray[np.int64]:
    """The permutation of k classes that makes most labels their predictions, (k,); classes that gain nothing by being
    moved stay where they are."""
    counts = np.zeros((k, k))
    np.add.at(counts, (label, predicted), 1.0)
    # A little for staying, so that ties change nothing.
    _, columns = linear_sum_assignment(counts + 0.25 * np.eye(k), maximize=True)
    return np.asarray(columns, dtype=np.int64)
