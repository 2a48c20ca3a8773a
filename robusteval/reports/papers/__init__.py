"""The five papers' tables in their own layout, from runs of their protocols: one file a paper, one row a model."""

from __future__ import annotations

from collections.abc import Sequence

from robusteval.analysis.methods import method_rows
from robusteval.analysis.results import Results
from robusteval.reports.figures.drawing import Plot
from robusteval.reports.grid import Grid
from robusteval.reports.papers import gradreg, moments, opnorm, samples, sgr, smoothkernels
from robusteval.results.run import Run

PAPERS = {
    "sgr-2019": ("SGR (2019)", sgr.tables),
    "gradreg-2020": ("GradReg (2020)", gradreg.tables),
    "opnorm-2020": ("OpNorm (2020)", opnorm.tables),
    "moments-2020": ("Moments (2020)", moments.tables),
    "smoothkernel-2020": ("SmoothKernels (2020)", smoothkernels.tables),
}
"""By the name of its protocol: what the paper is called here, and its tables from finished runs."""
PLOTS = {"sgr-2019": samples.sample_plots}


def paper_tables(runs: Sequence[Run | Results]) -> list[Grid]:
    """The tables of each paper whose protocol is among those of the runs: one row a run, that is a model, in the order
    given, in the columns of the paper. Runs of other protocols are left out.

    A row is called by the model's training, as its card says, or by its name. What needs other models or a measurement
    that no stage made is not in the tables, and their notes say so.
    """
    found = []
    for name, (_, tables) in PAPERS.items():
        own = [results for results in map(Results.of, runs) if results.manifest.protocol.name == name]
        found += tables(method_rows(own)) if own else []
    return found


def paper_plots(results: Results) -> list[Plot]:
    """The figures of a paper that show images, of a run of its protocol."""
    draw = PLOTS.get(results.manifest.protocol.name)
    return [] if draw is None else draw(results)


def title(results: Results) -> str:
    """The heading over a run's paper tables."""
    return f"Tables of {PAPERS[results.manifest.protocol.name][0]}"
