"""A verification as the terminal shows it."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from robusteval.cli.running import err, out

SHOWN = 50
"""Lines of what is wrong, at most."""


def print_verification(
    path: Path,
    checkpoint: str | None,
    trusted: Collection[Path],
    arch: str | None,
    data: str | None,
    every_attack: bool,
    witnesses_only: bool,
) -> int:
    """Verify a run and print what was found. The exit code: 0 where every claim that was checked holds, 1 where one
    does not, 3 where none is wrong but some wait for the user's permission to run a program."""
    from robusteval.auditing.verification.attacks import SAMPLED
    from robusteval.auditing.verify import examine, open_model
    from robusteval.cli.progress import Bars
    from robusteval.data import read_images
    from robusteval.results.run import Run

    run = Run.open(path)
    model = open_model(run, checkpoint, trusted, arch) if checkpoint else None
    images = read_images(data) if data else None
    count = None if every_attack else 0 if witnesses_only else SAMPLED
    with Bars(err) as bars:
        findings = list(examine(run, model, bars, not witnesses_only, trusted, arch=arch, data=images, attacks=count))
    lines = {kind: [f.line for f in findings if f.kind == kind] for kind in ("wrong", "blocked", "unchecked")}
    for where, said, some in (
        (err, "wrong", lines["wrong"][:SHOWN]),
        (err, "not checked:", lines["blocked"]),
        (out, "unchecked:", lines["unchecked"]),
    ):
        for line in some:
            where.line(said, line)
    if lines["wrong"]:
        err.line(f"{len(lines['wrong'])} claims of {path} do not hold.")
        return 1
    if lines["blocked"]:
        err.line(f"What could be checked of {path} without that holds.")
        return 3
    values = sum(f.values for f in findings if f.kind == "checked")
    said = f"Every claim of {path} that was checked holds: {values:,} values. Unchecked is what is listed above."
    out.line(said)
    return 0
