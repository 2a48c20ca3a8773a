"""Data sets in single files: MNIST-style IDX, Hugging Face-style parquet, npz."""

from __future__ import annotations

import gzip
import json
import math
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray

from robusteval.core.errors import UserError
from robusteval.core.images import Images
from robusteval.data.decode import decode, from_bytes


def read_idx(spec: str, limit: int | None) -> Images:
    """A folder with *-images-idx3-ubyte and *-labels-idx1-ubyte, gz or not: the test set (t10k), or FOLDER:train."""
    folder, train = Path(spec.removesuffix(":train")), spec.endswith(":train")
    found = sorted(folder.glob("*idx3-ubyte*"))
    chosen = [p for p in found if p.name.startswith("train") == train] or ([] if train else found)
    if not chosen:
        raise UserError(f"expected {'train' if train else 't10k'}-images-idx3-ubyte in {folder}, got none")
    labels_path = chosen[0].with_name(chosen[0].name.replace("images", "labels").replace("idx3", "idx1"))
    decoded, labels = _idx(chosen[0], 3), _idx(labels_path, 1)
    if len(decoded) != len(labels):
        raise UserError(f"expected as many labels as images in {folder}, got {len(labels)} and {len(decoded)}")
    n = len(decoded[:limit])
    ids = tuple(f"{'train' if train else 'test'}-{i:06d}" for i in range(n))
    pixels = from_bytes(list(decoded[:n]))
    return Images(ids, pixels, torch.from_numpy(labels[:n].astype(np.int64)), tuple("0123456789"), spec)


def _idx(path: Path, dimensions: int) -> NDArray[np.uint8]:
    try:
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError) as error:
        raise UserError(f"expected an IDX file in {path}, got: {error}") from error
    header = 4 + 4 * dimensions
    if len(content) < header or content[:4] != bytes([0, 0, 8, dimensions]):
        raise UserError(f"expected an IDX file of bytes in {dimensions} dimensions in {path}, got another header")
    shape = [int.from_bytes(content[4 + 4 * i : 8 + 4 * i], "big") for i in range(dimensions)]
    if len(content) - header != math.prod(shape):
        raise UserError(f"expected {math.prod(shape)} bytes after the header of {path}, got {len(content) - header}")
    return np.frombuffer(content, np.uint8, offset=header).reshape(shape)


def read_parquet(spec: str, limit: int | None) -> Images:
    """Rows with a struct `img` or `image` of encoded `bytes`, and an integer `label`."""
    try:
        file = pq.ParquetFile(spec)
        names = file.schema_arrow.names
        column = next((c for c in ("img", "image") if c in names), None)
        if column is None or "label" not in names:
            raise UserError(f"expected columns img (or image) and label in {spec}, got {', '.join(names)}")
        rows: list[dict[str, Any]] = []
        for batch in file.iter_batches(batch_size=min(limit or 1024, 1024), columns=[column, "label"]):
            rows += batch.to_pylist()
            if limit is not None and len(rows) >= limit:
                break
    except (OSError, pa.ArrowInvalid) as error:
        raise UserError(f"expected a parquet file in {spec}, got: {str(error).splitlines()[0]}") from error
    rows = rows[:limit]
    if any(not isinstance(row[column], dict) or not row[column].get("bytes") for row in rows):
        raise UserError(f"expected encoded images in {column}.bytes of {spec}, got rows without")
    decoded = [decode(row[column]["bytes"], f"row {i} of {spec}") for i, row in enumerate(rows)]
    if len({image.shape for image in decoded}) > 1:
        raise UserError(f"expected images of one size in {spec}, got {sorted({p.shape for p in decoded})}")
    if not rows:
        raise UserError(f"expected at least one image, got an empty selection of {spec}")
    labels = torch.tensor([int(row["label"]) for row in rows])
    ids = tuple(f"row-{i:06d}" for i in range(len(rows)))
    return Images(ids, from_bytes(decoded), labels, _class_names(file.schema_arrow.metadata or {}), spec)


def _class_names(metadata: dict[bytes, bytes]) -> tuple[str, ...]:
    """The names that Hugging Face's datasets leaves in the schema, if it does."""
    try:
        return tuple(json.loads(metadata[b"huggingface"])["info"]["features"]["label"]["names"])
    except (KeyError, ValueError, TypeError):
        return ()


def read_npz(spec: str, limit: int | None) -> Images:
    """x: uint8, or floating point in [0, 1]; (N, C, H, W), (N, H, W), or (N, H, W, C) with C 1 or 3. y: (N,)."""
    try:
        with np.load(spec, allow_pickle=False) as archive:
            missing = {"x", "y"} - set(archive.files)
            if missing:
                raise UserError(f"expected arrays x and y in {spec}, got {', '.join(archive.files)}")
            x, y = archive["x"][:limit], archive["y"][:limit]
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"expected an .npz file in {spec}, got: {str(error).splitlines()[0]}") from error
    if x.ndim == 3:
        x = x[:, None]
    if x.ndim != 4 or not (x.dtype == np.uint8 or np.issubdtype(x.dtype, np.floating)):
        raise UserError(
            f"expected x of shape (N, C, H, W), uint8 or floating point, in {spec}, got {x.shape} {x.dtype}"
        )
    if x.shape[-1] in (1, 3) and x.shape[1] not in (1, 3):
        x = x.transpose(0, 3, 1, 2)
    if y.shape != (len(x),) or not np.issubdtype(y.dtype, np.integer):
        raise UserError(f"expected {len(x)} integer labels y in {spec}, got {y.dtype} of shape {y.shape}")
    pixels = torch.from_numpy(np.ascontiguousarray(x)).float()
    pixels = pixels / 255 if x.dtype == np.uint8 else pixels
    ids = tuple(f"row-{i:06d}" for i in range(len(x)))
    return Images(ids, pixels, torch.from_numpy(y.astype(np.int64)), (), spec)
