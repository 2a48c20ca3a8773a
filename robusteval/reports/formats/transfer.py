"""The matrix of transfer attacks as files: transfer.csv and transfer.md."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from robusteval.analysis import names, show
from robusteval.analysis.results import Results
from robusteval.analysis.show import Round
from robusteval.analysis.transfer import transfer_matrix
from robusteval.reports.formats.markdown import escaped
from robusteval.results.below import as_csv, write_below
from robusteval.results.run import Run


def matrix_as_markdown(matrix: pd.DataFrame) -> str:
    """One table for each attack and budget: sources in rows, targets in columns."""
    parts = ["# Transfer matrix", "", "Accuracy of each target (column) under attacks made on each source (row)."]
    for (attack, norm, budget), rows in matrix.groupby(["attack", "norm", "budget"], sort=False, dropna=False):
        shares = rows.set_index(["source", "target"])["accuracy"]
        targets = list(dict.fromkeys(rows["target"]))
        at = names.at(str(norm), None if math.isnan(float(str(budget))) else float(str(budget)))
        parts += ["", f"## {escaped(str(attack))}, {at}", ""]
        parts += [f"| from | {' | '.join(map(escaped, targets))} |", f"| --- |{' ---: |' * len(targets)}"]
        for source in dict.fromkeys(rows["source"]):
            cells = (
                show.percent(float(shares[(source, target)]), Round.UP) if (source, target) in shares.index else "-"
                for target in targets
            )
            parts.append(f"| {escaped(source)} | {' | '.join(cells)} |")
    return "\n".join([*parts, ""])


def write_transfer_matrix(runs: Sequence[Run | Results], folder: Path) -> Path | None:
    """Write transfer.csv and transfer.md into `folder`; None if the protocol has no transfer attack."""
    matrix = transfer_matrix([Results.of(run) for run in runs])
    if matrix.empty:
        return None
    write_below(folder, "transfer.csv", as_csv(matrix))
    return write_below(folder, "transfer.md", matrix_as_markdown(matrix))
