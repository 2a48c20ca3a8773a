"""Data sets that want to execute, write, fill the memory or never end: each read by the command line, confined."""

from __future__ import annotations

import gzip
import io
import os
import pickle
import random
import socket
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

import robusteval.data.choice
import robusteval.models.checkpoints
import robusteval.models.zoo
from commands import main
from confining import Outcome, confined_each
from robusteval.core import limits

Build = Callable[[Path], object]
SECONDS, MEGABYTES = 20, 3000
# What the command imports is imported once, here, not in every child.
LOADED = (robusteval.data.choice, robusteval.models.checkpoints, robusteval.models.zoo)


class Runs:
    """Unpickled, makes a file."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> Any:
        return os.system, (f"touch '{self.canary}'",)


def encoded(kind: str = "PNG", side: int = 8, **options: Any) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray((np.arange(side * side) % 251).astype(np.uint8).reshape(side, side)).save(buffer, kind, **options)
    return buffer.getvalue()


def image(content: bytes, name: str = "1.png") -> Build:
    """A folder of one class with one image."""

    def build(folder: Path) -> Path:
        (folder / "data" / "0").mkdir(parents=True)
        (folder / "data" / "0" / name).write_bytes(content)
        return folder / "data"

    return build


def special(make: Callable[[Path], object], name: str = "data/0/1.png", say: str = "data") -> Build:
    """Something that is no regular file, made at `name`."""

    def build(folder: Path) -> Path:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        make(folder / name)
        return folder / say

    return build


def a_socket(path: Path) -> None:
    here = os.getcwd()
    os.chdir(path.parent)  # the path of a socket is short
    try:
        socket.socket(socket.AF_UNIX).bind(path.name)
    finally:
        os.chdir(here)


SPECIALS: dict[str, Callable[[Path], object]] = {
    "FIFO": os.mkfifo,
    "zeros": lambda path: path.symlink_to("/dev/zero"),
    "noise": lambda path: path.symlink_to("/dev/urandom"),
    "terminal": lambda path: path.symlink_to("/dev/tty"),
    "input": lambda path: path.symlink_to("/dev/stdin"),
    "socket": a_socket,
    "circle": lambda path: path.symlink_to(path.name),
    "nowhere": lambda path: path.symlink_to("none"),
    "folder": lambda path: path.symlink_to("."),
    "memory": lambda path: path.symlink_to("/proc/self/mem"),
}


def png(width: int, height: int, content: bytes | None = None) -> bytes:
    """As its header says, whatever there is of it."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    body = zlib.compress(bytes(min(height * (width + 1), 10**6))) if content is None else content
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


def bmp(width: int, height: int) -> bytes:
    return b"BM" + struct.pack("<IHHIIiiHHIIiiII", 54, 0, 0, 54, 40, width, height, 1, 24, 0, 0, 0, 0, 0, 0)


def chunks(kind: bytes, body: bytes, count: int) -> bytes:
    """A PNG with the same chunk many times before its pixels."""
    content = encoded()
    one = struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
    return content[:33] + one * count + content[33:]


def tiff(*tags: tuple[int, int]) -> bytes:
    """Of 7000 x 7000 grey pixels, as its header says."""
    size = ((256, 7000), (257, 7000), (258, 8), (259, 1), (262, 1), (277, 1))
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in sorted((*size, *tags)))
    return b"II*\0" + struct.pack("<IH", 8, len(entries) // 12) + entries + bytes(7100)


SURROGATES = b'{"info": {"features": {"label": {"names": ["\\ud800", "\\udcff"]}}}}'


def names_of_bytes(folder: Path) -> Path:
    """Of a class and of an image, as old archives have them."""
    os.makedirs(os.fsencode(folder) + b"/data/caf\xe9")
    with open(os.fsencode(folder) + b"/data/caf\xe9/\xff.png", "wb") as file:
        file.write(encoded())
    return folder / "data"


def eps(canary: Path) -> bytes:
    return (
        "%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\n"
        f"({canary}) (w) file closefile\nshowpage\n%%EOF\n"
    ).encode()


DOS_HEADER = struct.pack("<IIIIIIIH", 0xC6D3D0C5, 30, 200, 0, 0, 0, 0, 0)


def scans(count: int) -> bytes:
    """A JPEG with its last pass many times."""
    content = encoded("JPEG", 64, progressive=True)
    start = content.rindex(b"\xff\xda")
    return content[:start] + content[start:-2] * count + content[-2:]


def idx(shape: tuple[int, ...], content: bytes = b"", kind: int = 8) -> bytes:
    return bytes([0, 0, kind, len(shape)]) + b"".join(n.to_bytes(4, "big") for n in shape) + content


def zeros_gz(head: bytes) -> bytes:
    """`head` and 4 GB of zeros, packed once and repeated, which gzip allows."""
    return gzip.compress(head) + gzip.compress(bytes(1 << 24), 1) * 256


def idx_folder(images: bytes | None, labels: bytes | None, suffix: str = "") -> Build:
    def build(folder: Path) -> Path:
        (folder / "data").mkdir()
        for name, content in (("images-idx3", images), ("labels-idx1", labels)):
            if content is not None:
                (folder / "data" / f"t10k-{name}-ubyte{suffix}").write_bytes(content)
        return folder / "data"

    return build


def packed(members: dict[str, bytes], **options: Any) -> Build:
    def build(folder: Path) -> Path:
        with zipfile.ZipFile(folder / "data.npz", "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
            for name, content in members.items():
                archive.writestr(name, content)
        return folder / "data.npz"

    return build


def npy(shape: tuple[int, ...], dtype: str = "|u1", content: bytes = b"") -> bytes:
    header = str({"descr": dtype, "fortran_order": False, "shape": shape}).encode()
    header += b" " * (63 - (len(header) + 10) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + content


def zeros_npz(megabytes: int) -> Build:
    """x is so many megabytes of zeros as its header says; what would not be read is not written."""

    def build(folder: Path) -> Path:
        with zipfile.ZipFile(folder / "data.npz", "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
            with archive.open("x.npy", "w", force_zip64=True) as file:
                file.write(npy((megabytes, 1, 1024, 1024)))
                for _ in range(min(megabytes, 8)):
                    file.write(bytes(1 << 20))
            archive.writestr("y.npy", npy((megabytes,), content=bytes(megabytes)))
        return folder / "data.npz"

    return build


def pickled(name: str, wrapped: Callable[[bytes], bytes] = bytes) -> Build:
    def build(folder: Path) -> Path:
        (folder / name).write_bytes(wrapped(pickle.dumps(Runs(folder / "canary"))))
        return folder / name

    return build


def objects(folder: Path) -> Path:
    array = np.array([Runs(folder / "canary")], dtype=object)
    np.savez(folder / "data.npz", x=array, y=array)
    return folder / "data.npz"


def table(rows: int, content: bytes, **options: Any) -> Build:
    def build(folder: Path) -> Path:
        cells = pa.array([{"bytes": content}] * rows, pa.struct([("bytes", pa.binary())]))
        found = pa.table({"image": cells, "label": pa.array([0] * rows)})
        found = found.replace_schema_metadata(options.pop("metadata", None))
        pq.write_table(found, folder / "data.parquet", **options)
        return folder / "data.parquet"

    return build


def stream(rows: int, content: bytes, **options: Any) -> bytes:
    """An Arrow stream of the same image in every row."""
    cells = pa.array([{"bytes": content}] * rows, pa.struct([("bytes", pa.binary())]))
    found = pa.table({"image": cells, "label": pa.array([0] * rows)})
    buffer = io.BytesIO()
    with pa.ipc.new_stream(buffer, found.schema, options=pa.ipc.IpcWriteOptions(**options)) as writer:
        writer.write_table(found)
    return buffer.getvalue()


def tar(members: dict[str, bytes], sizes: dict[str, int] | None = None, **facts: Any) -> bytes:
    """A tar, in which a member may claim another size."""
    found = b""
    for name, content in members.items():
        member = tarfile.TarInfo(name)
        member.size = (sizes or {}).get(name, len(content))
        for fact, value in facts.items():
            setattr(member, fact, value)
        found += member.tobuf() + content + bytes(-len(content) % 512)
    return found + bytes(1024)


def held(name: str, content: bytes) -> Build:
    """A file, or one in a folder that is the data."""

    def build(folder: Path) -> Path:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
        return folder / name.split("/")[0]

    return build


def saved(build: Callable[[Path], object], **options: Any) -> Build:
    """By torch.save."""

    def make(folder: Path) -> Path:
        torch.save(build(folder / "canary"), folder / "data.pt", **options)
        return folder / "data.pt"

    return make


def array_pickle(count: int, data: bytes) -> bytes:
    """A batch of CIFAR whose array claims another shape."""
    good = pickle.dumps({"data": np.zeros((1, 3072), np.uint8), "labels": [0]}, protocol=2)
    return good.replace(b"K\x01M\x00\x0c", b"J" + count.to_bytes(4, "little") + b"M\x00\x0c", 1) + data


def nested_tuples(depth: int) -> bytes:
    """A key of a dict that is a tuple in a tuple in a tuple."""
    return b"\x80\x02}(" + b")" + b"\x85" * depth + b"K\x00u."


def doubling(depth: int) -> bytes:
    """A tuple of twice itself, of twice itself: its hash would take 2^depth steps."""
    return b"\x80\x02})" + b"q\x00h\x00\x86" * depth + b"K\x00s."


def deep(folder: Path) -> Path:
    here = os.getcwd()
    (folder / "data" / "0").mkdir(parents=True)
    os.chdir(folder / "data" / "0")
    try:
        for _ in range(200):
            os.mkdir("a")
            os.chdir("a")
    finally:
        os.chdir(here)
    return folder / "data"


def text(folder: Path, path: Path | None = None, content: bytes = b"") -> Path:
    """Good data whose list of classes is bad."""
    image(encoded())(folder)
    if content:
        (folder / "classes").write_bytes(content)
    elif path:
        (folder / "classes").symlink_to(path)
    else:
        os.mkfifo(folder / "classes")
    return folder / "data"


BOMBS: dict[str, Build] = {
    "169 megapixels": lambda folder: image(png(13000, 13000))(folder),
    "4 gigapixels": image(png(65535, 65535)),
    "largest PNG": image(png(2**31 - 1, 2**31 - 1)),
    "pixels of a GIF": image(b"GIF89a\xff\xff\xff\xff\xf0\x00\x00" + bytes(6) + b",\0\0\0\0\xff\xff\xff\xff\0\2\0;"),
    "pixels of a BMP": image(bmp(60000, 60000)),
    "pixels of a PPM": image(b"P6 60000 60000 255\n" + bytes(100)),
    "pixels of a WebP": image(encoded("WEBP", 8, lossless=True)[:20] + b"\x2f\xff\xff\xff\x0f" + bytes(50)),
    "passes of a JPEG": image(scans(2000)),
    "long image": lambda folder: image(encoded() + bytes(limits.IMAGE_BYTES))(folder),
    "gz of zeros": lambda folder: idx_folder(zeros_gz(idx((1, 8, 8))), gzip.compress(idx((1,), b"\0")), ".gz")(folder),
    "gz of zeros in labels": lambda folder: idx_folder(
        gzip.compress(idx((1, 8, 8), bytes(64))), zeros_gz(idx((1,))), ".gz"
    )(folder),
    "large header": idx_folder(idx((2**32 - 1, 2**32 - 1, 2**32 - 1)), idx((2**32 - 1,))),
    "large header of nothing": idx_folder(idx((2**32 - 3, 2**32 - 4, 0)), idx((2**32 - 3,))),
    "large labels": idx_folder(idx((1, 8, 8), bytes(64)), idx((2**32 - 1,))),
    "large header in gz": idx_folder(gzip.compress(idx((60000, 2**16, 2**16))), gzip.compress(idx((60000,))), ".gz"),
    "promised, not there": idx_folder(gzip.compress(idx((1000, 1000, 1000))), gzip.compress(idx((1000,))), ".gz"),
    "npz of zeros": zeros_npz(1100),
    "npz of a large header": packed({"x.npy": npy((10**6, 1, 10**4, 10**4)), "y.npy": npy((10**6,), "<i8")}),
    "npz of large labels": packed({"x.npy": npy((1, 1, 8, 8), content=bytes(64)), "y.npy": npy((10**12,), "<i8")}),
    "npz of negative sizes": packed({"x.npy": npy((-1, 1, 8, 8)), "y.npy": npy((1,), "<i8")}),
    "npz of long items": packed({"x.npy": npy((1,), "<U1000000000"), "y.npy": npy((1,), "<i8")}),
    "npz of a long header": packed({"x.npy": b"\x93NUMPY\x02\x00\xff\xff\xff\x7f" + bytes(10**6), "y.npy": b""}),
    "npz of what is no array": lambda folder: packed({"x": bytes(10**8), "y": bytes(10)})(folder),
    "page of zeros": lambda folder: table(1, bytes(100 << 20), compression="zstd")(folder),
    "pages of zeros": lambda folder: table(3, bytes(60 << 20), compression="zstd", use_dictionary=False)(folder),
    "one image in every row": lambda folder: table(400, encoded("PNG", 2000), compression="zstd")(folder),
    "one long image in every row": lambda folder: table(12, bytes(30 << 20), compression="zstd")(folder),
    "nested names": lambda folder: table(1, encoded(), metadata={b"huggingface": b"[" * 10**6})(folder),
    "arrow of zeros": lambda folder: held("data.arrow", stream(1, bytes(100 << 20), compression="zstd"))(folder),
    "arrow of a long message": held("data.arrow", b"\xff\xff\xff\xff\xff\xff\xff\x7f" + bytes(100)),
    "tar of a large member": held("data.tar", tar({"1.png": encoded(), "1.cls": b"0"}, {"1.png": 2**33 - 1})),
    "tar of a large header": held("data.tar", tar({"1.png": b"x"}, {"1.png": 2**33 - 1}, type=b"x")),
    "tar of headers in headers": lambda folder: held("data.tar", tar({"x": b"9 a=b\n"}, type=b"x")[:-1024] * 20000)(
        folder
    ),
    "tar of a long name": held("data.tar", tar({"1.png": b"x"}, {"1.png": 2**33 - 1}, type=b"L")),
    "csv of a long line": lambda folder: held("data.csv", b"path,label\n" + b"x," * 10**7)(folder),
    "csv without end": lambda folder: special(SPECIALS["zeros"], "data.csv", "data.csv")(folder),
    "npy of a large header": held("data.npy", npy((10**6, 1, 10**4, 10**4))),
    "npy that promises": held("data.npy", npy((2**15, 1, 2**7, 2**7))),
    "batch of a large array": held("data/test_batch", array_pickle(2**31 - 1, b"")),
    "batch of a long text": held("data/test_batch", b"\x80\x04\x8e" + (2**62).to_bytes(8, "little")),
    "batch of nested tuples": lambda folder: held("data/test_batch", nested_tuples(3 * 10**5))(folder),
    "batch of doubling tuples": held("data/test_batch", doubling(60)),
    "batch of many operations": lambda folder: held("data/test_batch", b"\x80\x02" + b"]" * (3 * 10**6))(folder),
    "batch of nested lists": lambda folder: held("data/test_batch", b"\x80\x02" + b"]" * 10**5 + b"a" * 10**5)(folder),
    "binary batch without end": lambda folder: special(SPECIALS["zeros"], "data/test_batch.bin")(folder),
    "tensors of one number": saved(
        lambda _: (torch.zeros(1).expand(2**20, 3, 2**7, 2**7), torch.zeros(1).expand(2**20))
    ),
    "deep folders": deep,
    "long list of classes": lambda folder: text(folder, content=b"a\n" * limits.TEXT_BYTES),
    "classes without end": lambda folder: text(folder, Path("/dev/zero")),
    "classes of a FIFO": text,
    "comments of a PPM": lambda folder: image(b"P3\n" + b"#\n" * 20_000_000 + b"8 8 255\n" + b"1 " * 192)(folder),
    "comments in a PPM": lambda folder: image(b"P3 8 8 255\n" + b"#\n" * 20_000_000 + b"1 " * 192)(folder),
    "spaces of a PPM": lambda folder: image(b"P5" + b" " * 40_000_000 + b"8 8 255\n" + bytes(64))(folder),
    "chunks of a PNG": lambda folder: image(chunks(b"teSt", b"", 1_000_000))(folder),
    "texts of a PNG": lambda folder: image(chunks(b"tEXt", b"a\0b", 1_000_000))(folder),
    "comments of a GIF": lambda folder: image(encoded("GIF")[:-1] + b"!\xfe\1a\0" * 6_000_000 + b";")(folder),
    "pieces of a GIF": lambda folder: image(encoded("GIF")[:-1] + b"!\xfe" + b"\1a" * 15_000_000 + b"\0;")(folder),
    "JPEG of a larger size": image(encoded("JPEG").replace(b"\x08\0\x08\0\x08", b"\x08\x1b\x58\x1b\x58")),
    "TIFF of one tile": image(tiff((322, 1), (323, 1), (324, 134), (325, 1))),
    "TIFF of one strip": image(tiff((273, 134), (278, 1), (279, 7000))),
    "names of bytes": names_of_bytes,
    "surrogates as names": lambda folder: table(1, encoded(), metadata={b"huggingface": SURROGATES})(folder),
}
READ = {"nested names", "names of bytes", "surrogates as names"}
"""What is harmless for all its size, and read."""


def eps_named(name: str) -> Build:
    return lambda folder: image(eps(folder / "canary"), name)(folder)


EXECUTING: dict[str, Build] = {
    **{f"EPS as {name}": eps_named(name) for name in ("1.png", "2.jpg", "3.gif", "4.tif")},
    "EPS in a table": lambda folder: table(2, eps(folder / "canary"))(folder),
    "EPS with a DOS header": lambda f: image(
        struct.pack("<IIIIIIIH", 0xC6D3D0C5, 30, 200, 0, 0, 0, 0, 0) + eps(f / "canary")
    )(f),
    **{
        f"{kind} as an image": image(content)
        for kind, content in {
            "PDF": b"%PDF-1.4\n1 0 obj<</OpenAction<</S/Launch/F(touch canary)>>>>endobj\n",
            "SVG": b"<svg xmlns='http://www.w3.org/2000/svg'><image href='/etc/passwd'/></svg>",
            "WMF": b"\xd7\xcd\xc6\x9a" + bytes(200),
            "FPX": b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(2000),
            "HDF5": b"\x89HDF\r\n\x1a\n" + bytes(200),
            "GRIB": b"GRIB" + bytes([0, 0, 0, 1]) + bytes(200),
            "BUFR": b"BUFR" + bytes(200),
            "FITS": b"SIMPLE  =                    T" + b" " * 2850,
            "ICNS": b"icns" + bytes([0, 0, 1, 0]) + bytes(250),
            "PSD": b"8BPS\0\1" + bytes(200),
            "JPEG 2000": encoded("JPEG2000"),
            "TGA": encoded("TGA"),
            "ICO": encoded("ICO", 16),
            "SGI": encoded("SGI"),
            "DDS": encoded("DDS"),
            "PCX": encoded("PCX"),
            "script": b"#!/bin/sh\ntouch canary\n",
        }.items()
    },
    **{f"pickle as {name}": pickled(name) for name in ("data.npz", "data.parquet", "data.npy", "data.pt", "data.tar")},
    **{f"pickle as {name}": pickled(name) for name in ("data.csv", "data.arrow", "test_batch", "data.pkl")},
    "tensors that call": saved(Runs),
    "tensors that call, of old": saved(Runs, _use_new_zipfile_serialization=False),
    "tensors with one that calls": saved(lambda canary: (torch.zeros(1, 1, 8, 8), Runs(canary))),
    "batch with one that calls": lambda folder: held(
        "data/test_batch", pickle.dumps({b"data": np.zeros((1, 3072), np.uint8), b"labels": Runs(folder / "canary")})
    )(folder),
    "names of classes that call": lambda folder: (
        held("data/test_batch", pickle.dumps({"data": np.zeros((1, 3072), np.uint8), "labels": [0]}))(folder),
        held("data/batches.meta", pickle.dumps(Runs(folder / "canary")))(folder),
    )[1],
    "EPS in a tar": lambda folder: held("data.tar", tar({"1.png": eps(folder / "canary"), "1.cls": b"0"}))(folder),
    "EPS in arrow": lambda folder: held("data.arrow", stream(1, eps(folder / "canary")))(folder),
    "a tar that leads out": held("data.tar", tar({"../../1.png": encoded(), "/../1.cls": b"0"})),
    "a tar of links": held("data.tar", tar({"1.png": b"", "1.cls": b""}, type=b"2", linkname="/etc/passwd")),
    "a tar of devices": held("data.tar", tar({"1.png": b"", "1.cls": b""}, type=b"3")),
    "a csv that leads out": held("data.csv", b"path,label\n../../../etc/passwd,0\n"),
    "a csv of a device": held("data.csv", b"path,label\n/dev/zero,0\n"),
    "a csv of a long name": held("data.csv", b"path,label\n" + b"x" * 10_000 + b",0\n"),
    "a csv of formulas": held("data.csv", b"path,label\n=cmd|' /C calc'!A0,0\n"),
    "tensors of numpy that call": saved(lambda canary: {"images": np.array([Runs(canary)]), "labels": np.zeros(1)}),
    "labels of long names": lambda folder: packed(
        {"x.npy": npy((1, 1, 8, 8), content=bytes(64)), "y.npy": npy((1,), "<U100000", b"a\0\0\0" * 100_000)}
    )(folder),
    "pickle as an array": pickled("data.npz", lambda found: npy((1,), "|O", found)),
    "objects": objects,
    "pickle of labels": lambda folder: packed(
        {
            "x.npy": npy((1, 1, 8, 8), content=bytes(64)),
            "y.npy": npy((1,), "|O", pickle.dumps(Runs(folder / "canary"))),
        }
    )(folder),
}
SPECIAL: dict[str, Build] = {
    **{f"{kind} as an image": special(make) for kind, make in SPECIALS.items()},
    **{f"{kind} as an npz": special(make, "data.npz", "data.npz") for kind, make in SPECIALS.items()},
    **{
        f"{kind} as {name}": special(make, name, name.split("/")[0])
        for kind, make in SPECIALS.items()
        for name in ("data.npy", "data.pt", "data.csv", "data.tar", "data.arrow", "data/test_batch", "data/x.arrow")
    },
    **{f"{kind} as a parquet": special(make, "data.parquet", "data.parquet") for kind, make in SPECIALS.items()},
    **{
        f"{kind} as IDX{suffix}": special(make, f"data/t10k-images-idx3-ubyte{suffix}")
        for kind, make in SPECIALS.items()
        for suffix in ("", ".gz")
    },
    **{
        f"{kind} as labels": lambda folder, make=make: (  # type: ignore[misc]
            idx_folder(idx((1, 8, 8), bytes(64)), None)(folder),
            special(make, "data/t10k-labels-idx1-ubyte")(folder),
        )[1]
        for kind, make in SPECIALS.items()
    },
}


def tensors() -> bytes:
    buffer = io.BytesIO()
    torch.save((torch.zeros(3, 1, 8, 8), torch.zeros(3, dtype=torch.int64)), buffer)
    return buffer.getvalue()


def beside(folder: Path, name: str) -> Path:
    """What the file `name` needs beside it; the data that it is a part of."""
    if "idx3" in name:
        path = folder / name.replace("images-idx3", "labels-idx1")
        path.write_bytes(gzip.compress(idx((3,), bytes(3))) if name.endswith("gz") else idx((3,), bytes(3)))
    if name == "data.npy":
        (folder / "labels.npy").write_bytes(npy((3,), content=bytes(3)))
    if name == "data.csv":
        (folder / "labels.npy").write_bytes(encoded())
    return folder / name.split("/")[0]


GOOD: dict[str, tuple[str, bytes]] = {
    **{kind: ("data/0/1.png", encoded(kind)) for kind in ("PNG", "JPEG", "BMP", "GIF", "TIFF", "WEBP", "PPM")},
    "packed TIFF": ("data/0/1.png", encoded("TIFF", compression="tiff_lzw")),
    "npy": ("data.npy", npy((3, 8, 8), content=bytes(192))),
    "CSV": ("data.csv", b"path,label\nlabels.npy,0\n"),
    "tar": ("data.tar", tar({"1.png": encoded(), "1.cls": b"0", "2.png": encoded(), "2.cls": b"1"})),
    "arrow": ("data.arrow", stream(3, encoded())),
    "batch": (
        "data/test_batch",
        pickle.dumps({"data": np.zeros((2, 3072), np.uint8), "labels": [0, 1]}, protocol=4),
    ),
    "tensors": ("data.pt", tensors()),
    "IDX": ("data/t10k-images-idx3-ubyte", idx((3, 8, 8), bytes(192))),
    "gz": ("data/t10k-images-idx3-ubyte.gz", gzip.compress(idx((3, 8, 8), bytes(192)), mtime=0)),
}


def damaged(kind: str, seed: int) -> Build:
    """A good file with a few bytes changed, or its end cut off: read, or refused."""
    name, content = GOOD[kind]
    rng = random.Random(seed)
    found = bytearray(content[: rng.randrange(len(content))] if seed % 3 == 0 else content)
    for _ in range(rng.randrange(1, 6)):
        if found:
            found[rng.randrange(len(found))] = rng.choice((0, 1, 127, 128, 255, rng.randrange(256)))

    def build(folder: Path) -> Path:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(found)
        return beside(folder, name)

    return build


DAMAGED = {f"{kind} {seed}": damaged(kind, seed) for kind in GOOD for seed in range(8)}
GROUPS = {"programs": EXECUTING, "no files": SPECIAL, "damaged": DAMAGED} | {
    name: {name: BOMBS[name]} for name in BOMBS
}
"""What is read in one process; each bomb has its own."""


def audit(folder: Path, data: object, out: Path) -> Callable[[], int]:
    """As the command line reads it: before the checkpoint, which is not there."""
    classes = ["--classes", folder / "classes"] if os.path.lexists(folder / "classes") else []
    return lambda: main(["audit", folder / "none.pt", "--data", data, *classes, "--out", out])


def read_each(folder: Path, builds: Mapping[str, Build]) -> dict[str, Outcome]:
    """Each data set in a folder of its own, files/NAME."""
    actions, out = {}, folder / "out"
    out.mkdir()
    for name, build in builds.items():
        (folder / "files" / name).mkdir(parents=True)
        data = build(folder / "files" / name)
        actions[name] = audit(folder / "files" / name, data, out / "run")
    return confined_each(actions, out, SECONDS, MEGABYTES)


def read(folder: Path, build: Build) -> Outcome:
    return read_each(folder, {"data": build})["data"]


@pytest.fixture(autouse=True)
def swept(tmp_path: Path) -> Iterator[None]:
    """Folders deeper than a path is long are removed step by step."""
    yield
    os.system(f"rm -rf '{tmp_path}'/*")


@pytest.mark.parametrize("group", GROUPS)
def test_data_is_read_or_refused(group: str, tmp_path: Path) -> None:
    outcomes = read_each(tmp_path, GROUPS[group])
    assert outcomes.keys() == GROUPS[group].keys()
    wrong = {name: outcome for name, outcome in outcomes.items() if not was_right(name, outcome)}
    assert not wrong
    assert not list((tmp_path / "files").glob("*/canary"))


def was_right(name: str, found: Outcome) -> bool:
    # Pillow's and libtiff's own warnings may stand before it.
    line = found.output.strip().splitlines()[-1:]
    if not (found.clean and found.code == 2 and line and line[0].startswith("error: expected ")):
        return False
    return "none.pt, which does not exist" not in line[0] or name in DAMAGED or name in READ


def test_there_are_enough() -> None:
    names = [name for group in GROUPS.values() for name in group]
    print(f"{len(names)} data sets")
    assert len(set(names)) == len(names) >= 180


@pytest.mark.parametrize("kind", GOOD)
def test_the_good_ones_are_read(kind: str, tmp_path: Path) -> None:
    name, content = GOOD[kind]

    def build(folder: Path) -> Path:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
        return beside(folder, name)

    assert "none.pt, which does not exist" in read(tmp_path, build).output


def test_the_opt_out_is_named_and_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "IMAGE_PIXELS", 63)
    (tmp_path / "a").mkdir()
    found = read(tmp_path / "a", image(encoded()))
    assert "expected at most 63 pixels in" in found.output
    assert "got 64; if that is meant, set ROBUSTEVAL_NO_LIMITS=1" in found.output
    monkeypatch.setenv(limits.OPT_OUT, "1")
    (tmp_path / "b").mkdir()
    assert "none.pt, which does not exist" in read(tmp_path / "b", image(encoded())).output


def test_a_folder_of_many_files_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "FOLDER_ENTRIES", 20)

    def build(folder: Path) -> Path:
        for i in range(30):
            (folder / "data" / "0" / f"{i % 3}").mkdir(parents=True, exist_ok=True)
            (folder / "data" / "0" / f"{i % 3}" / f"{i}.png").write_bytes(encoded())
        return folder / "data"

    assert "expected at most 20 files and folders in" in read(tmp_path, build).output
