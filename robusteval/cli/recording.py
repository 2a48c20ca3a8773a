"""A verification as a record: written, signed, and checked again offline."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from robusteval.core.errors import UserError
from robusteval.results.digest import digest
from robusteval.results.files import checksum
from robusteval.results.keeping import number_left_out
from robusteval.results.run import Run
from robusteval.results.verification import Checked, Verification, read_verification

_PACKAGES = ("robusteval", "torch", "numpy", "pandas", "matplotlib")


def make_record(
    run: Run, checked: Sequence[Checked], unchecked: Sequence[str], findings: Sequence[str], device: str, seconds: float
) -> Verification:
    """The record of a verification that has just ended, on `device`."""
    manifest = run.manifest
    return Verification(
        run=run.path.resolve().name,
        digest=digest(manifest),
        model=manifest.model.name,
        model_fingerprint=manifest.model.fingerprint,
        data=manifest.data.source,
        data_fingerprint=manifest.data.fingerprint,
        seed=manifest.seed,
        versions={"python": platform.python_version()} | {name: version(name) for name in _PACKAGES},
        device=device,
        time=datetime.now(UTC).isoformat(timespec="seconds"),
        seconds=seconds,
        checked=tuple(checked),
        unchecked=tuple(unchecked),
        images_without_evidence=number_left_out(manifest),
        findings=tuple(findings),
    )


def check_record(run: Run, path: Path, allowed: Path | None) -> tuple[Verification, str]:
    """A record that is of this run as it lies there, and who signed it (empty where signers are not asked for).
    Raises UserError for another signature, another run, and a file of evidence that was changed."""
    from robusteval.cli.signing import check

    signer = check(path, allowed) if allowed else ""
    record = read_verification(path)
    own = digest(run.manifest)
    if record.digest != own:
        raise UserError(f"expected a record of {run.path} (digest {own}), got {path} of digest {record.digest}")
    files = {p.relative_to(run.path).as_posix(): checksum(p) for p in run.evidence()}
    if files != run.manifest.evidence:
        name = sorted(n for n, _ in files.items() ^ run.manifest.evidence.items())[0]
        raise UserError(f"expected the evidence of {path} in {run.path}, got another {name}")
    return record, signer
