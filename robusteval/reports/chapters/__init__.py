"""What a report shows of each metric, one file a metric, in the order of the report."""

from __future__ import annotations

from robusteval.reports.chapters import alignment, noise, spectrum
from robusteval.reports.chapters.base import Chapter

CHAPTERS: tuple[Chapter, ...] = (noise.CHAPTER, spectrum.CHAPTER, alignment.CHAPTER)
