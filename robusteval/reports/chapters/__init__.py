"""What a report shows of each metric, one file a metric, in the order of the report."""

from __future__ import annotations

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
    regularity,
    softmax_line,
    spectrum,
    targeted_grid,
)
from robusteval.reports.chapters.base import Chapter

CHAPTERS: tuple[Chapter, ...] = (
    noise.CHAPTER,
    analytic_moments.CHAPTER,
    spectrum.CHAPTER,
    alignment.CHAPTER,
    operator_norm.CHAPTER,
    linearity.CHAPTER,
    activation_patterns.CHAPTER,
    regularity.CHAPTER,
    covariance.CHAPTER,
    softmax_line.CHAPTER,
    kernels.CHAPTER,
    activation_maximization.CHAPTER,
    targeted_grid.CHAPTER,
    deception.CHAPTER,
)
