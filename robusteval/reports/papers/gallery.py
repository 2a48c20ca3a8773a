"""The figures of the papers that overlay models."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from robusteval.analysis.methods import method_rows
from robusteval.analysis.results import Results
from robusteval.reports.figures.drawing import Plot
from robusteval.reports.papers import opnorm_figures, smoothkernels_figures
from robusteval.results.run import Run

FIGURES_OF = {"opnorm-2020": opnorm_figures.figures, "smoothkernel-2020": smoothkernels_figures.figures}
"""By the name of the paper's protocol."""


def paper_figures(runs: Sequence[Run | Results], protocol: str) -> list[Plot]:
    """The figures of a paper over its runs, a colour, row or column a model, in the order given; none of a paper whose
    figures do not overlay models, or where no run measured them."""
    own = [results for results in map(Results.of, runs) if results.manifest.protocol.name == protocol]
    if not own or protocol not in FIGURES_OF:
        return []
    return [replace(p, name=f"paper-{protocol}-{p.name}") for p in FIGURES_OF[protocol](method_rows(own))]
