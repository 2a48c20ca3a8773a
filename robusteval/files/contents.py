"""What a file is, by its first bytes and by the names in its zip: nothing of it is unpickled, loaded or executed."""

from __future__ import annotations

import pickletools
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from robusteval.core.errors import UserError, first_line
from robusteval.core.limits import check_limit_of

AGAIN = "download it again"
PICKLE_BYTES = 8 * 2**20
"""Of the pickle in a torch file, which holds names and shapes: 20,000 keys are 4 MiB. One that is longer takes
minutes."""
UNPACKED = 16
"""Times its size that a zip may unpack to; torch stores weights as they are, 1 time."""
ENTRIES = 100_000
"""Members of a zip: one a tensor and a few more."""
_ZIP = b"PK\x03\x04"
_HEAD = 1024
_SIGNATURES: tuple[tuple[bytes, str, str], ...] = (
    (b"version https://git-lfs", "a Git LFS pointer, not the file that it stands for", "fetch that with: git lfs pull"),
    (b"\x89HDF", "an HDF5 file (Keras)", "save the weights as .safetensors"),
    (b"PAR1", "a Parquet file", "give it with --data"),
    (b"ARROW1", "an Arrow file", "give it with --data"),
    (b"MATLAB 5", "a MATLAB file", "save the weights as .safetensors"),
    (b"\x89PNG", "a PNG image", "give the checkpoint"),
    (b"\xff\xd8\xff", "a JPEG image", "give the checkpoint"),
    (b"GIF8", "a GIF image", "give the checkpoint"),
    (b"%PDF", "a PDF", "give the checkpoint"),
    (b"\x7fELF", "a program for this system (ELF)", "give the checkpoint"),
    (b"MZ", "a program for Windows", "give the checkpoint"),
    (b"\x93NUMPY", "a NumPy array", "save the weights as .safetensors"),
    (b"\x1f\x8b", "a gzip archive", "unpack it first"),
    (b"BZh", "a bzip2 archive", "unpack it first"),
    (b"\xfd7zXZ", "an xz archive", "unpack it first"),
    (b"\x28\xb5\x2f\xfd", "a zstd archive", "unpack it first"),
    (b"7z\xbc\xaf", "a 7z archive", "unpack it first"),
    (b"Rar!", "a RAR archive", "unpack it first"),
    (b"GGUF", "a GGUF file", "save the weights as .safetensors"),
)


@dataclass(frozen=True)
class Program:
    """A file that computes rather than holds numbers; `exported` by torch.export, else TorchScript."""

    exported: bool

    @property
    def what(self) -> str:
        return "a torch.export program" if self.exported else "a TorchScript program"


def described(path: Path) -> str:
    """What a file that no reader takes is, and what to do: "got X; Y" of an error."""
    return "; ".join(kind_and_advice(path))


def kind_and_advice(path: Path) -> tuple[str, str]:
    """What a file is by its bytes, and what who wanted a checkpoint can do."""
    with path.open("rb") as file:
        head = file.read(_HEAD)
    if not head:
        return "an empty file", AGAIN
    for signature, what, advice in _SIGNATURES:
        if head.startswith(signature):
            return what, advice
    start = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if head.startswith(_ZIP):
        return "a zip archive that is cut short or no checkpoint", AGAIN
    if head[4:8] == b"TFL3":
        return "a model of TensorFlow Lite", "convert it to .onnx"
    if head[257:262] == b"ustar":
        return "a tar archive", "unpack it first"
    if start.startswith((b"<!doctype html", b"<html", b"<head", b"<body")):
        return "an HTML page, perhaps that of a failed download", AGAIN
    if start.startswith(b"<"):
        return "XML or HTML", AGAIN
    if start.startswith((b"{", b"[")) and b"\0" not in head:
        return "JSON, perhaps the error of a failed download", AGAIN
    if not any(head):
        return "zeros, perhaps of a download that was cut short", AGAIN
    if looks_like_safetensors(path):
        return "safetensors that are cut short or damaged", AGAIN
    if head.startswith(b"\x80") and head[1:2] <= b"\x05" and _operations(head):
        return "a pickle that torch did not write or that is cut short", f"{AGAIN}, or save the weights as .safetensors"
    if all(byte >= 32 or byte in b"\t\r\n" for byte in head):
        return "text", AGAIN
    return f"bytes of no known format (they begin with {head[:4].hex(' ')})", AGAIN


def looks_like_safetensors(path: Path) -> bool:
    """Whether a file begins with the length of a JSON header, and that."""
    with path.open("rb") as file:
        head = file.read(9)
    return len(head) == 9 and head[8:] == b"{" and int.from_bytes(head[:8], "little") < 2**32


def is_zip(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(4) == _ZIP


def program_in(path: Path, wanted: str = "a checkpoint") -> Program | None:
    """The program that a zip holds, by the names of its members; None for what torch.save wrote. Raises UserError for a
    zip that is damaged, is no file of torch, or unpacks to far more than it is; it says what is `wanted`."""
    if not is_zip(path):
        return None
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
    except Exception as error:  # zipfile raises all kinds for what is no zip
        raise UserError(f"expected {wanted} in {path}, got {described(path)} ({first_line(error)})") from error
    check_limit_of(path, len(members), ENTRIES, "members of the zip")
    most = max(UNPACKED * path.stat().st_size, 2**20)
    check_limit_of(path, sum(member.file_size for member in members), most, "bytes that its zip unpacks to")
    names = [member.filename for member in members]
    if exported := _exported(names):
        return Program(exported)
    if any(name.endswith("constants.pkl") for name in names) or any("code/" in name for name in names):
        return Program(exported=False)
    pickles = [member.file_size for member in members if member.filename.split("/")[-1] == "data.pkl"]
    if not pickles:
        raise UserError(f"expected {wanted} in {path}, got a zip archive that holds none (no data.pkl)")
    check_limit_of(path, max(pickles), PICKLE_BYTES, "bytes in the pickle")
    return None


def _exported(names: Iterable[str]) -> bool:
    parts = [name.split("/") for name in names]
    return any("archive_format" in p or "models" in p or "serialized_exported_program.json" in p[-1] for p in parts)


def _operations(raw: bytes) -> set[str]:
    """The names of the operations of a pickle, as far as it is one."""
    found: set[str] = set()
    try:
        for operation, _, _ in pickletools.genops(raw):
            found.add(operation.name)
    except Exception:  # bytes that are none raise all kinds
        return found
    return found
