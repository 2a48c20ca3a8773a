"""A large finished run, made quickly: the rows and the images of a small one repeated under other names."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from robusteval.core.norms import Norm
from robusteval.results.below import as_csv, write_below
from robusteval.results.files import Arrays, read_arrays, write_arrays, write_frame
from robusteval.results.run import Run
from robusteval.results.tables import TABLES

SHARD = 1000
"""Images of a file."""


def repeated(run: Run, into: Path, count: int) -> Run:
    """A run of `count` images in `into`, those of `run` over and over: its tables and the images behind them, not its
    parts. Names are numbers, in the order of which rows stand as in a table of an audit. So that distances do not
    repeat, those of each image are shorter by another factor of at most a ten-thousandth."""
    names = {str(i): k for k, i in enumerate(run.table("images")["image_id"])}
    for table in TABLES:
        frame = _repeated(run.table(table), names, count)
        write_frame(into / "tables" / f"{table}.parquet", frame)
        if table == "bounds":
            write_below(into, "tables/bounds.csv", as_csv(frame))
    data = run.manifest.data.model_copy(update={"count": count})
    made = Run(into, run.manifest.model_copy(update={"data": data, "batch_size": SHARD}))
    for folder in sorted((run.path / "witnesses").iterdir()):
        arrays: Arrays = {}
        for file in sorted(folder.glob("*.safetensors")):
            arrays |= read_arrays(file)
        for shard in range(-(-count // SHARD)):
            own = {renamed: a for key, a in arrays.items() for renamed in _renamed(key, names, shard, count)}
            write_arrays(made.array_file(folder.name, f"{shard:05d}"), own)
    made.write_manifest()
    return made


def named(k: int) -> str:
    return f"{k:07d}"


def _repeated(frame: pd.DataFrame, names: dict[str, int], count: int) -> pd.DataFrame:
    if "image_id" not in frame:
        return frame
    parts = [rows for _, rows in frame.groupby("method", sort=False)] if "method" in frame else [frame]
    return pd.concat([_rows(rows, names, count) for rows in parts], ignore_index=True)


def _rows(rows: pd.DataFrame, names: dict[str, int], count: int) -> pd.DataFrame:
    """Of one stage, by image."""
    place = rows["image_id"].map(names).to_numpy(np.int64)
    rows, place = rows.iloc[np.argsort(place, kind="stable")], np.sort(place, kind="stable")
    times = -(-count // len(names))
    again = (np.arange(times)[:, None] * len(names) + place).ravel()
    kept = np.flatnonzero(again < count)
    image_ids = pd.Series([named(k) for k in range(count)], dtype="str").take(again[kept]).to_numpy()
    made = rows.take(np.tile(np.arange(len(rows)), times)[kept]).assign(image_id=image_ids)
    factor = 1 - 1e-4 * (again[kept] * 0.6180339887 % 1)
    return made.assign(**{str(c): made[c] * factor for c in made if _is_distance(str(c))})


def _is_distance(column: str) -> bool:
    return column in {*Norm, "radius"} or (
        column.startswith(("upper_", "proof_", "confidence_", "lower_")) and not column.endswith("_method")
    )


def _renamed(key: str, names: dict[str, int], shard: int, count: int) -> list[str]:
    """The names in a shard of an array of the run: its images are every len(names)-th."""
    prefix, slash, image_id = key.rpartition("/")
    if image_id not in names:
        return [key] if not shard else []
    first, step = shard * SHARD, len(names)
    return [
        f"{prefix}{slash}{named(k)}"
        for k in range(first + (names[image_id] - first) % step, min(first + SHARD, count), step)
    ]
