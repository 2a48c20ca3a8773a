"""A verification as the terminal shows it."""

from __future__ import annotations

import time
from collections.abc import Collection
from pathlib import Path

from robusteval.cli.running import err, out
from robusteval.core.errors import UserError
from robusteval.results.verification import Checked, Verification

SHOWN = 50
"""Findings, at most."""


def print_verification(
    path: Path,
    checkpoint: str | None,
    trusted: Collection[Path],
    witnesses_only: bool,
    folder: Path | None,
    key: Path | None,
) -> Verification:
    """Verify a run and its pages, print what was found, and write the record into a folder, signed by a key."""
    from robusteval.auditing.verify import open_model, unchecked, verify
    from robusteval.cli.progress import Bars
    from robusteval.cli.recording import count_values, make_record
    from robusteval.cli.signing import sign
    from robusteval.core.device import choose_device, describe
    from robusteval.reports.pages_again import compare_pages
    from robusteval.reports.verification import write_verification
    from robusteval.results.run import Run

    if key and not folder:
        raise UserError("expected --out with --sign, the folder of the record, got none")
    run, began = Run.open(path), time.perf_counter()
    model = open_model(run, checkpoint, trusted)
    with Bars(err) as bars:
        findings = list(verify(run, model, bars, recompute=not witnesses_only, trusted=trusted))
    left = [unchecked(run)] if unchecked(run) else []
    checked: list[Checked] = []
    if findings:
        left.append("pages, and how many values were held against the model, since what they rest on does not hold")
    else:
        checked = count_values(run, recomputed=not left, everything=not witnesses_only)
        left += ["certificates and metrics by computing them again (--witnesses-only)"] * witnesses_only
        pages = compare_pages(run)
        findings += pages.findings
        left += pages.unchecked
        checked.append(Checked(what="pages", values=pages.compared, by="derived again"))
    left += ["costs and times", "attacks that found nothing", "that the data are those of the set that they name"]
    device = describe(choose_device("auto"))
    record = make_record(run, checked, left, findings, device, time.perf_counter() - began)
    for finding in findings[:SHOWN]:
        err.print("[red]wrong[/red]", end=" ")
        err.print(finding, markup=False, highlight=False, soft_wrap=True)
    if findings:
        err.print(f"{len(findings)} claims of {path} do not hold.", markup=False, highlight=False, soft_wrap=True)
    out.print(f"Digest of the run: {record.digest}", highlight=False, soft_wrap=True)
    out.print(record.sentence, markup=False, highlight=False, soft_wrap=True)
    if folder:
        written = write_verification(record, folder)
        out.print(f"Record: {written}", markup=False, highlight=False, soft_wrap=True)
        if key:
            out.print(f"Signature: {sign(written, key)}", markup=False, highlight=False, soft_wrap=True)
    return record


def compare_record(path: Path, written: Path, allowed: Path | None) -> None:
    """Hold a record, and its signature where signers are given, against a run as it lies there."""
    from robusteval.cli.recording import check_record
    from robusteval.results.run import Run

    record, signer = check_record(Run.open(path), written, allowed)
    said = f"Signed by {signer}. " if signer else "Its signature was not checked (--allowed-signers). "
    out.print(f"{said}It is of this run. {record.sentence}", markup=False, highlight=False, soft_wrap=True)
