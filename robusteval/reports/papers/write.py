"""A paper's tables over several models, as a page, Markdown, LaTeX and CSV: written beside the models' own reports."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

from robusteval.analysis import show
from robusteval.analysis.methods import method_rows
from robusteval.analysis.results import Results
from robusteval.core.errors import UserError
from robusteval.reports.figures.drawing import Plot, save_all
from robusteval.reports.formats import latex, markdown
from robusteval.reports.formats.exports import csv_text
from robusteval.reports.formats.page import render
from robusteval.reports.grid import Grid
from robusteval.reports.papers import PAPERS, paper_tables, title
from robusteval.reports.papers.gallery import paper_figures
from robusteval.results.below import write_below
from robusteval.results.run import Run

TRAININGS = (
    "One row a model. It is called by its training, as its model card says, or by its name where it has no card. "
    "Models of the same training get their names as well."
)


def write_paper_tables(runs: Sequence[Run | Results], folder: Path | str) -> dict[str, Path]:
    """Write the tables of each paper whose protocol is among those of the runs, over all runs of it, into `folder`:
    paper-<protocol>.html, .md and .tex, each table as tables/paper-<protocol>-<table>.csv and .tex, and the figures
    that overlay models as figures/paper-<protocol>-<figure>.svg, .png and .csv. Return the pages by what the paper is
    called.

    Raises UserError where runs of one protocol are not of the same images.
    """
    folder, given, pages = Path(folder), [Results.of(run) for run in runs], {}
    for protocol, (paper, _) in PAPERS.items():
        own = [results for results in given if results.manifest.protocol.name == protocol]
        if own:
            _check_images(own)
            name = f"paper-{protocol}"
            drawn = save_all(paper_figures(own, protocol), folder / "figures")
            for file, text in _forms(own, name, drawn).items():
                write_below(folder, file, text)
            pages[paper] = folder / f"{name}.html"
    return pages


def _check_images(runs: Sequence[Results]) -> None:
    first, *others = runs
    for other in others:
        if other.manifest.data.fingerprint != first.manifest.data.fingerprint:
            raise UserError(
                f"expected runs of the same images for the tables of a paper, got {first.path} and {other.path} with "
                "different ones; audit both with the same --data, --limit and --sample"
            )


def _forms(runs: Sequence[Results], name: str, drawn: Sequence[tuple[Plot, str]]) -> dict[str, str]:
    """The text of each file, by its path."""
    tables = paper_tables(runs)
    models = _models(runs)
    grids = [models, *tables]
    found = {
        f"{name}.html": _page(runs, tables, models, drawn),
        f"{name}.md": _markdown(runs, grids, [plot for plot, _ in drawn]),
        f"{name}.tex": "\n".join(map(latex.table, grids)),
    }
    for grid in grids:
        found[f"tables/{name}-{grid.key}.csv"] = csv_text(grid)
        found[f"tables/{name}-{grid.key}.tex"] = latex.table(grid)
    return found


def _models(runs: Sequence[Results]) -> Grid:
    """Which model each row is, and how long it was trained."""
    rows = []
    for row in method_rows(runs):
        model = row.manifest.model
        seconds = model.training_seconds
        trained = "-" if seconds is None else f"{show.fixed(seconds, 1)} s"
        rows.append([row.name, model.name, model.arch or "-", trained, model.fingerprint[:16]])
    headings = ["Row", "model", "architecture", "trained for", "weights"]
    return Grid("Models", headings, rows, text=3, note=TRAININGS, name="models")


def _subject(runs: Sequence[Results]) -> str:
    data, protocol = runs[0].manifest.data, runs[0].manifest.protocol.name
    models = f"{len(runs)} models" if len(runs) > 1 else "One model"
    return f"{models} on {show.images(data.count)} of {data.source}, protocol {protocol}."


def _markdown(runs: Sequence[Results], grids: Sequence[Grid], plots: Sequence[Plot]) -> str:
    parts = [f"# {title(runs[0])}", markdown.escaped(_subject(runs)), *markdown.titled_tables(grids)]
    for plot in plots:
        heading, caption = markdown.escaped(plot.title), markdown.escaped(plot.caption)
        parts += [f"### {heading}", f"![{heading}](figures/{plot.name}.png)", caption]
    return "\n\n".join(part for part in parts if part) + "\n"


def _page(runs: Sequence[Results], tables: Sequence[Grid], models: Grid, drawn: Sequence[tuple[Plot, str]]) -> str:
    commands = dict.fromkeys(shlex.join(results.manifest.command) for results in runs if results.manifest.command)
    return render(
        "papers.html",
        "papers.js",
        title=title(runs[0]),
        subject=_subject(runs),
        tables=[(table, _spans(table)) for table in tables],
        models=models,
        drawn=drawn,
        manifest=runs[0].manifest,
        commands=list(commands),
        runs=[(results.manifest.model.name, str(results.path)) for results in runs],
        name=f"paper-{runs[0].manifest.protocol.name}",
    )


def _spans(grid: Grid) -> list[tuple[int, list[str]]]:
    """The rows, each with the number of rows over which its first cell stands: 0 where it is that of the row above."""
    found: list[tuple[int, list[str]]] = []
    for _, same in groupby(grid.rows, lambda row: row[0]):
        first, *others = same
        found += [(1 + len(others), first), *((0, row) for row in others)]
    return found
