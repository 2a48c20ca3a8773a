"""The headline for the end of an audit, on a terminal."""

from __future__ import annotations

from rich import box
from rich.table import Table
from rich.text import Text

from robusteval.analysis import show
from robusteval.analysis.headline import headline_of
from robusteval.analysis.summary import Summary
from robusteval.core.foreign import one_line


def headline_table(summary: Summary) -> Table:
    """The headline as a table with a line a row at 100 columns; cells break between words where there are fewer."""
    table = Table(
        title=Text(one_line(f"{summary.model} on {summary.n:,} images of {summary.data}")), box=box.SIMPLE_HEAD
    )
    table.add_column("", max_width=46, overflow="fold")
    table.add_column("at", overflow="fold")
    table.add_column("value", justify="right", overflow="fold")
    table.add_column("95 % interval", justify="right", overflow="fold")
    for line in headline_of(summary):
        table.add_row(*(Text(one_line(x)) for x in (line.quantity, line.at, line.shown, line.interval)))
    captions = []
    if summary.contradictions:
        where = show.images(summary.contradictions)
        captions.append(f"On {where} a lower bound exceeds the distance of a known adversarial example: see the report")
    captions += [one_line(f"{title}: {words}") for title, words in summary.rounding]
    if captions:
        table.caption = Text("\n".join(captions))
    return table
