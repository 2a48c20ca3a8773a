"""What a report contains, in its order: the same sections, figures and tables in every form of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from robusteval.analysis.certification import spreads
from robusteval.analysis.closest import Example, examples
from robusteval.analysis.distances import DistanceSummary, summarise_distances
from robusteval.analysis.results import Results
from robusteval.analysis.summary import Summary, summarise
from robusteval.reports import papers
from robusteval.reports.chapters import chapters_of
from robusteval.reports.figures.distances import accuracy_curves, brackets, coverage
from robusteval.reports.figures.drawing import Plot
from robusteval.reports.figures.fits import fits
from robusteval.reports.figures.standing import standing_plot
from robusteval.reports.figures.thumbnails import main_norm
from robusteval.reports.grid import Grid
from robusteval.reports.sections import attack_tables, bound_tables, provenance, verdict
from robusteval.reports.sections.budgets import AtBudget, at_budgets
from robusteval.reports.sections.costs import cost_grid
from robusteval.reports.sections.headline import headline_grid
from robusteval.reports.sections.not_checked import not_checked

IMAGES = "table"
"""The section that is only a place: where the page has its table of images."""


@dataclass(frozen=True)
class Section:
    key: str
    title: str
    plots: Sequence[Plot] = ()
    grids: Sequence[Grid] = ()
    note: str = ""
    folded: bool = False
    """Of interest to few readers: a page opens it on demand."""


@dataclass(frozen=True)
class Contents:
    """A finished run, its numbers, what is said of them in words (sections/verdict.py, provenance.py), and the sections
    that have anything in them: first the verdict, last the cost."""

    results: Results
    summary: Summary
    distances: DistanceSummary
    opening: str
    at_budgets: Sequence[AtBudget]
    closing: str
    examples: Sequence[Example]
    unchecked: Sequence[str]
    notes: Sequence[str]
    reading: Sequence[str]
    facts: Sequence[tuple[str, str]]
    sections: Sequence[Section]


def contents(results: Results) -> Contents:
    """All that a report says, before it takes a form."""
    summary, distances = summarise(results), summarise_distances(results)
    published = papers.paper_tables([results])
    attacks = attack_tables.attack_grids(summary)
    fooled = "Fooled: the share of correctly classified images for which the attack found a witness within the budget."
    lower = [*bound_tables.radius_grids(spreads(results)), *bound_tables.calibration_grids(summary)]
    asked = bound_tables.unanswered_note(results)
    found = [
        Section("verdict", "Verdict", standing_plot(summary.standings), [headline_grid(summary)]),
        Section("brackets", "Brackets", brackets(results), bound_tables.bracket_grids(summary)),
        Section("curves", "Attacks", accuracy_curves(results), attacks, fooled if attacks else ""),
        Section(IMAGES, "Images"),
        Section("distances", "Distances", (), attack_tables.distance_grids(distances)),
        Section("certificates", "Lower bounds", [*coverage(results), *fits(results)], lower, asked),
        *(Section(c.method, c.title, c.plots(results), c.grids(results), folded=True) for c in chapters_of(results)),
        Section("paper", papers.title(results) if published else "", papers.paper_plots(results), published, "", True),
        Section("cost", "Cost", (), [cost_grid(summary.costs)]),
    ]
    return Contents(
        results,
        summary,
        distances,
        verdict.opening(summary),
        at_budgets(summary),
        verdict.closing(summary),
        examples(results, main_norm(results)),
        not_checked(results, summary),
        [*(f"Judged by {text}." for text in provenance.judged_by(results)), *verdict.notes(summary)],
        verdict.reading(summary),
        provenance.facts(results),
        [s for s in found if s.plots or s.grids or s.key == IMAGES],
    )
