"""A verification as the terminal shows it, and its record."""

from __future__ import annotations

import time
from collections.abc import Collection
from pathlib import Path

from robusteval.cli.running import err, out
from robusteval.core.errors import UserError

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
    folder: Path | None,
    key: Path | None,
    sample: int | None = None,
) -> int:
    """Verify a run and its pages, print what was found, and write the record into a folder, signed by a key. The exit
    code: 0 where every claim that was checked holds, 1 where one does not, 3 where none is wrong but some wait: for the
    user's permission to run a program, or for a model or a package that is not there."""
    from robusteval.auditing.verification.attacks import SAMPLED
    from robusteval.auditing.verify import examine, open_model
    from robusteval.cli.progress import Bars
    from robusteval.cli.recording import make_record
    from robusteval.cli.signing import sign
    from robusteval.core.device import choose_device, describe
    from robusteval.data.choice import read_again
    from robusteval.reports.certification.page import write_certification
    from robusteval.reports.pages_again import compare_pages
    from robusteval.reports.verification import write_verification
    from robusteval.results.run import Run
    from robusteval.results.verification import Checked

    if key and not folder:
        raise UserError("expected --out with --sign, the folder of the record, got none")
    if folder and folder.resolve().is_relative_to(path.resolve()):
        raise UserError(f"expected --out outside of {path}, since nothing is written into a run, got {folder}")
    run, began = Run.open(path), time.perf_counter()
    model = open_model(run, checkpoint, trusted, arch) if checkpoint else None
    asked, seed = run.manifest.data, run.manifest.seed
    images = read_again(data, asked.reading, asked.limit, asked.sample, seed) if data else None
    count = None if every_attack else 0 if witnesses_only else SAMPLED
    with Bars(err) as bars:
        everything = examine(
            run, model, bars, not witnesses_only, trusted, arch=arch, data=images, attacks=count, sample=sample
        )
        findings = list(everything)
    wrong, blocked, unchecked = (
        [f.line for f in findings if f.kind == kind] for kind in ("wrong", "blocked", "unchecked")
    )
    checked = [Checked(what=f.line, values=f.values) for f in findings if f.kind == "checked"]
    if wrong:
        unchecked.append("pages: what they rest on does not hold")
    else:
        pages = compare_pages(run)
        wrong += pages.findings
        unchecked += pages.unchecked
        checked.append(Checked(what="pages and figures against those made again", values=pages.compared))
    device = describe(choose_device("auto"))
    record = make_record(run, checked, [*blocked, *unchecked], wrong, device, time.perf_counter() - began)
    for line in wrong[:SHOWN]:
        err.line("wrong", line, style="red")
    for line in blocked:
        err.line("not checked:", line)
    for line in unchecked:
        out.line("unchecked:", line)
    out.line(f"Digest of the run: {record.digest}")
    if folder:
        written = write_verification(record, folder)
        out.line(f"Record: {written}")
        if not wrong and (path / "certification.html").is_file():
            out.line(f"Certification: {write_certification(run, into=folder, verification=record)}")
        if key:
            out.line(f"Signature: {sign(written, key)}")
    (err if wrong or blocked else out).line(record.sentence)
    return 1 if wrong else 3 if blocked else 0


def compare_record(path: Path, written: Path, allowed: Path | None) -> int:
    """Hold a record, and its signature where signers are given, against a run as it lies there: its evidence, and the
    tables and pages that follow from it. The exit code: 1 where the record itself names claims that do not hold, or
    something that lies there now is wrong."""
    from robusteval.auditing.verify import examine_files
    from robusteval.cli.recording import check_record
    from robusteval.reports.pages_again import compare_pages
    from robusteval.results.run import Run

    run = Run.open(path)
    record, signer = check_record(run, written, allowed)
    changed = [f.line for f in examine_files(run) if f.kind == "wrong"]
    changed += compare_pages(run).findings if not changed else ()
    for line in changed[:SHOWN]:
        err.line("wrong", line, style="red")
    said = f"Signed by {signer}." if signer else "Its signature was not checked (--allowed-signers)."
    out.line(f"{said} It is of this run. {record.sentence}")
    return 1 if record.findings or changed else 0
