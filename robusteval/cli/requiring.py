"""--require: a run that does not reach what was asked for ends with an exit code of its own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import typer

from robusteval.cli.running import err

if TYPE_CHECKING:
    from robusteval.analysis.requirements import Requirement
    from robusteval.auditing.protocol import Protocol
    from robusteval.results.run import Run

UNMET = 4
"""The exit code."""


def requirements(texts: Sequence[str] | None, protocol: Protocol) -> list[Requirement]:
    """What was asked for, before anything is computed. Raises UserError for what no run of the protocol can answer."""
    from robusteval.analysis.requirements import parse_requirement

    return [parse_requirement(text, protocol.budgets, protocol.own_budgets) for text in texts or ()]


def check_requirements(asked: Sequence[Requirement], runs: Sequence[Run]) -> None:
    """Name each requirement that a run does not meet, and end with the exit code 4 if there is one."""
    from robusteval.analysis.summary import summarise

    if not asked:
        return
    unmet = [
        f"required of {run.manifest.model.name}: {one.text}, got {reason}"
        for run in runs
        for summary in [summarise(run)]
        for one in asked
        if (reason := one.unmet(summary))
    ]
    for line in unmet:
        err.line(line, style="red")
    if unmet:
        raise typer.Exit(UNMET)
