"""What a report shows of each metric, one file a metric, in the order of the report."""

from __future__ import annotations

from robusteval.reports.chapters import (
    activation_patterns,
    covariance,
    kernels,
    linearity,
    noise,
    operator_norm,
    softmax_line,
    spectrum,
)
from robusteval.reports.chapters.base import Chapter

CHAPTERS: tuple[Chapter, ...] = (
    noise.CHAPTER,
    spectrum.CHAPTER,
    operator_norm.CHAPTER,
    linearity.CHAPTER,
    activation_patterns.CHAPTER,
    covariance.CHAPTER,
    softmax_line.CHAPTER,
    kernels.CHAPTER,
)
