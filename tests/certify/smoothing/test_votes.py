"""Votes under noise: their distribution, and that batches change nothing but the memory."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.stats import binom, chisquare, norm

from robusteval.certify.smoothing.votes import votes
from robusteval.numerics.noise import BLOCK
from smoothed import RARE, Window, linear, streams_of, window


def test_votes_have_the_distribution_of_the_noise() -> None:
    """Binomial with P(|sigma Z| < 0.2), image by image independent: a chi-square test of the counts."""
    classifier, images = window(6000)
    found = votes(classifier.metered(6000), images.pixels, streams_of(images), 0.25, 7)
    assert (found.sum(1) == 7).all()
    p = 2 * norm.cdf(0.2 / 0.25) - 1
    expected = 6000 * binom.pmf(np.arange(8), 7, p)
    assert chisquare(np.bincount(found[:, 0].numpy(), minlength=8), expected).pvalue > RARE


@pytest.mark.parametrize("draws", [1, BLOCK - 1, BLOCK, 3 * BLOCK + 5])
@pytest.mark.parametrize("size", [1, 50, 1000])
def test_votes_are_the_same_in_any_batch_and_fit_in_one(size: int, draws: int) -> None:
    classifier, images, _ = linear(9)
    classifier = classifier.metered(9)
    expected = votes(classifier, images.pixels, streams_of(images), 0.4, draws)
    sized = replace(classifier, batch_size=size)
    assert torch.equal(votes(sized, images.pixels, streams_of(images), 0.4, draws), expected)
    back = images.select(torch.arange(9).flip(0))
    assert torch.equal(votes(sized, back.pixels, streams_of(back), 0.4, draws).flip(0), expected)


def test_no_more_than_a_batch_is_held_at_a_time() -> None:
    for n in (10, 500):
        classifier, images = window(n)
        Window.batches.clear()
        votes(replace(classifier.metered(n), batch_size=100), images.pixels, streams_of(images), 0.25, 100)
        assert max(Window.batches) <= 100
        assert sum(Window.batches) == 100 * n
