"""What a report shows of each metric, one file a metric, in the order of the report."""

from __future__ import annotations

from robusteval.analysis.results import Results
from robusteval.reports.chapters import (
    activation_maximization,
    activation_patterns,
    alignment,
    analytic_moments,
    covariance,
    deception,
    kernels,
    linearity,
    noise,
    operator_norm,
    prediction_distance,
    regularity,
    softmax_line,
    spectrum,
    targeted_grid,
)
from robusteval.reports.chapters.base import Chapter, nothing
from robusteval.reports.chapters.generic import generic_chapter

CHAPTERS: tuple[Chapter, ...] = (
    noise.CHAPTER,
    analytic_moments.CHAPTER,
    spectrum.CHAPTER,
    alignment.CHAPTER,
    operator_norm.CHAPTER,
    linearity.CHAPTER,
    activation_patterns.CHAPTER,
    regularity.CHAPTER,
    prediction_distance.CHAPTER,
    covariance.CHAPTER,
    softmax_line.CHAPTER,
    kernels.CHAPTER,
    activation_maximization.CHAPTER,
    targeted_grid.CHAPTER,
    deception.CHAPTER,
    Chapter("smoothed-prediction", "Smoothed prediction", nothing),
    Chapter("gradient-masking", "Gradient masking", nothing),
)
"""One for each metric of this package. The last two show nothing here: smoothed predictions are in the tables of the
run, and signs of gradient masking are flags on top of the report."""


def chapters_of(results: Results) -> list[Chapter]:
    """Those of this package, then one for each other metric of the run."""
    known = {chapter.method for chapter in CHAPTERS}
    others = {record.method: record for record in results.metrics_ran if record.method not in known}
    return [*CHAPTERS, *map(generic_chapter, others.values())]
