"""Signatures of files by ssh keys, made and checked offline by ssh-keygen (the format that OpenSSH calls SSHSIG)."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from robusteval.core.errors import UserError

NAMESPACE = "robusteval-verification"
"""What a signature is for: one made for another purpose does not pass."""
_SECONDS = 60


def sign(path: Path, key: Path) -> Path:
    """Write the signature of a file by a private ssh key beside it, as <file>.sig. Raises UserError in one line."""
    if not key.is_file():
        raise UserError(f"expected a private ssh key for --sign, got no file {key}")
    signature = signature_of(path)
    signature.unlink(missing_ok=True)
    done = _ssh_keygen("-Y", "sign", "-f", str(key.absolute()), "-n", NAMESPACE, str(path.absolute()))
    if done.returncode or not signature.is_file():
        raise UserError(f"expected a private ssh key that signs, got {key}: {_last(done)}")
    return signature


def check(path: Path, allowed: Path) -> str:
    """Who signed a file, by the file of allowed signers (lines of a name and a public key, as OpenSSH reads them).
    Raises UserError in one line where there is no signature, another signer, or a file that was changed since."""
    signature = signature_of(path)
    for file, what in ((allowed, "a file of allowed signers"), (signature, f"a signature beside {path}")):
        if not file.is_file():
            raise UserError(f"expected {what}, got no file {file}")
    found = _ssh_keygen("-Y", "find-principals", "-s", str(signature.absolute()), "-f", str(allowed.absolute()))
    names = found.stdout.decode(errors="replace").splitlines()
    if found.returncode or not names:
        raise UserError(f"expected {signature} of a signer in {allowed}, got another: {_last(found)}")
    done = _ssh_keygen(
        *("-Y", "verify", "-f", str(allowed.absolute()), "-I", names[0], "-n", NAMESPACE),
        *("-s", str(signature.absolute())),
        given=path.read_bytes(),
    )
    if done.returncode:
        raise UserError(f"expected {path} as {names[0]} signed it, got another: {_last(done)}")
    return names[0]


def signature_of(path: Path) -> Path:
    """Where the signature of a file lies."""
    return path.with_name(f"{path.name}.sig")


def _ssh_keygen(*arguments: str, given: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    program = shutil.which("ssh-keygen")
    if program is None:
        raise UserError("expected ssh-keygen (OpenSSH 8.2 or later) for signatures, got none on this machine")
    try:
        return subprocess.run([program, *arguments], input=given, capture_output=True, timeout=_SECONDS)
    except subprocess.TimeoutExpired:
        raise UserError(f"expected an answer of ssh-keygen within {_SECONDS} s, got none") from None


def _last(done: subprocess.CompletedProcess[bytes]) -> str:
    lines = (done.stderr or done.stdout).decode(errors="replace").split("\n")
    return next((line.strip() for line in reversed(lines) if line.strip()), "no reason given")
