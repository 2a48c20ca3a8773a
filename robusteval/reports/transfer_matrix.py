"""The matrix of transfer attacks: how accurate each target stays under what was made on each source (SGR, table 1)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from robusteval.audit.run import Run, atomically
from robusteval.reports import names, show
from robusteval.reports.curves import closest, within
from robusteval.reports.intervals import proportion
from robusteval.reports.show import Round


def transfer_matrix(runs: Sequence[Run]) -> pd.DataFrame:
    """One row for each attack, budget, source and target: the share of all images that the target still classifies
    correctly, with its 95 % interval. A target under its own attacks is not in it: that is the white-box table."""
    rows = []
    for run in runs:
        images, witnesses = run.table("images"), run.table("witnesses")
        for entry in run.stages("attack"):
            if entry.get("source") is None or entry["status"] != "done":
                continue
            source = run.manifest["sources"][entry["source"]]["name"]
            distances = closest(witnesses, entry["name"], entry["norm"], images["image_id"])
            for budget in entry["budgets"]:
                share = proportion(~within(distances, budget).to_numpy())
                rows.append(
                    {
                        "attack": entry["name"].split("-from-", 1)[0],
                        "norm": entry["norm"],
                        "budget": budget,
                        "source": source,
                        "target": run.manifest["model"]["name"],
                        "accuracy": share.value,
                        "low": share.low,
                        "high": share.high,
                        "images": share.n,
                    }
                )
    return pd.DataFrame(rows)


def as_markdown(matrix: pd.DataFrame) -> str:
    """One table for each attack and budget: sources in rows, targets in columns."""
    parts = ["# Transfer matrix", "", "Accuracy of each target (column) under attacks made on each source (row)."]
    for (attack, norm, budget), rows in matrix.groupby(["attack", "norm", "budget"], sort=False):
        shares = rows.set_index(["source", "target"])["accuracy"]
        targets = list(dict.fromkeys(rows["target"]))
        parts += ["", f"## {attack}, {names.NORMS[str(norm)]} {show.budget(float(str(budget)))}", ""]
        parts += [f"| from | {' | '.join(targets)} |", f"| --- |{' ---: |' * len(targets)}"]
        for source in dict.fromkeys(rows["source"]):
            cells = (
                show.percent(float(shares[(source, target)]), Round.UP) if (source, target) in shares.index else "-"
                for target in targets
            )
            parts.append(f"| {source} | {' | '.join(cells)} |")
    return "\n".join([*parts, ""])


def write_transfer_matrix(runs: Sequence[Run], folder: Path) -> Path | None:
    """Write transfer.csv and transfer.md into `folder`; None if the protocol has no transfer attack."""
    matrix = transfer_matrix(runs)
    if matrix.empty:
        return None
    atomically(folder / "transfer.csv", lambda temporary: matrix.to_csv(temporary, index=False))
    text = as_markdown(matrix)
    atomically(folder / "transfer.md", lambda temporary: temporary.write_text(text))
    return folder / "transfer.md"
