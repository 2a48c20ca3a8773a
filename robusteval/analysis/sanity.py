"""The sanity warnings of a finished run, from its tables."""

from __future__ import annotations

from robusteval.analysis.results import Results
from robusteval.results.records import SANITY
from robusteval.sanity import SanityWarning, sanity_warnings


def warnings_of(results: Results) -> tuple[SanityWarning, ...]:
    """Whether the data, the labels and the settings fit the model; the gravest first."""
    statistics, manifest = results.rows("statistics", SANITY), results.manifest
    return sanity_warnings(results.images, statistics, manifest.model.num_classes, manifest.data.class_names)
