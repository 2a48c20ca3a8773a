"""What a report shows of each metric, one file a metric, in the order of the report."""

from __future__ import annotations

from robusteval.reports.chapters import analytic_moments, noise, regularity, spectrum
from robusteval.reports.chapters.base import Chapter

CHAPTERS: tuple[Chapter, ...] = (
    noise.CHAPTER,
    analytic_moments.CHAPTER,
    spectrum.CHAPTER,
    regularity.CHAPTER,
)
