"""Predictions of the smoothed classifier: the majority, or an abstention."""

from __future__ import annotations

import math

import torch
from scipy.stats import binom

from robusteval.metrics.smoothed_prediction import SmoothedPrediction
from smoothed import RARE, streams_of, window


def test_predictions_are_the_majority_or_abstain() -> None:
    """Clear, clear for the other class, and at p = 1/2."""
    metric = SmoothedPrediction(sigma=0.1, n=200)
    for at, expected in ((0.5, 0.0), (0.95, 1.0), (0.7, math.nan)):
        classifier, images = window(20, at)
        found = {m.quantity: m for m in metric.measure(classifier.metered(20), images, None, streams_of(images))}
        assert all(m.at == 0.1 for m in found.values())
        named, abstained = (found[f"smoothed_{q}"].values for q in ("class", "abstained"))
        assert torch.equal(named.isnan(), abstained == 1)
        assert (named.isnan() if math.isnan(expected) else named == expected).all()
        first, second = (found[f"smoothed_{q}"].values for q in ("count", "count_second"))
        assert (first >= second).all()
        assert (first + second == 200).all()


def test_a_class_that_is_not_the_likelier_is_predicted_as_rarely_as_alpha_says() -> None:
    """The window at the edge: class 0 with probability a little below 1/2."""
    classifier, images = window(2000, at=0.7)
    metric = SmoothedPrediction(sigma=0.1, n=50, alpha=0.2)
    found = {m.quantity: m.values for m in metric.measure(classifier.metered(2000), images, None, streams_of(images))}
    wrong = int((found["smoothed_class"] == 0).sum())
    assert 0 < wrong <= binom.isf(RARE, 2000, 0.2)
