"""What a report shows of each metric, one file a metric, in the order of the report."""

from __future__ import annotations

from robusteval.reports.chapters import activation_maximization, deception, noise, spectrum, targeted_grid
from robusteval.reports.chapters.base import Chapter

CHAPTERS: tuple[Chapter, ...] = (
    noise.CHAPTER,
    spectrum.CHAPTER,
    activation_maximization.CHAPTER,
    targeted_grid.CHAPTER,
    deception.CHAPTER,
)
