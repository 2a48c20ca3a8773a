"""The tables of a run, put together from its parts. Imports no torch."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from robusteval.results.bracket import bracket
from robusteval.results.calibrate import Calibration, calibrate
from robusteval.results.run import CLEAN, Run, atomically, read_frame, write_frame
from robusteval.results.tables import CALIBRATION, CERTIFICATES, IMAGES, MEASUREMENTS, STATISTICS, WITNESSES, Table

_MAIN = {CLEAN: IMAGES, "attack": WITNESSES, "certificate": CERTIFICATES, "metric": MEASUREMENTS}
_ORDER = {
    "images": ["image_id"],
    "witnesses": ["budget", "image_id"],
    "certificates": ["image_id"],
    "measurements": ["quantity", "at", "image_id"],
    "statistics": ["quantity", "at"],
}
"""How the rows of one stage are ordered, whatever shards they came in."""


def build_tables(run: Run) -> dict[str, pd.DataFrame]:
    """Every table, from the parts alone: stages in the order of the manifest."""
    tables = {t.name: _collect(run, t) for t in (IMAGES, WITNESSES, CERTIFICATES, MEASUREMENTS, STATISTICS)}
    bounds, table = bracket(tables["images"], tables["witnesses"], tables["certificates"]), CALIBRATION.frame()
    asked = run.manifest["protocol"].get("calibration")
    if asked is not None:
        seed = run.manifest["seed"]
        bounds, table = calibrate(bounds, tables["certificates"], Calibration(**asked), seed)
    return {**tables, "bounds": bounds, "calibration": table}


def write_tables(run: Run) -> None:
    """Write tables/*.parquet and tables/bounds.csv."""
    for name, frame in build_tables(run).items():
        write_frame(run.path / "tables" / f"{name}.parquet", frame)
        if name == "bounds":
            atomically(bounds_csv(run), lambda temporary, frame=frame: frame.to_csv(temporary, index=False))  # type: ignore[misc]


def bounds_csv(run: Run) -> Path:
    return run.path / "tables" / "bounds.csv"


def _collect(run: Run, table: Table) -> pd.DataFrame:
    stages = []
    for entry in run.manifest["stages"]:
        if entry["status"] != "done":
            continue
        folder = run.path / "parts" / entry["name"]
        own = _MAIN[entry["kind"]] is table
        files = sorted(folder.glob("[0-9]*.parquet" if own else f"*.{table.name}.parquet"))
        frames = [read_frame(path) for path in files if own == path.stem.isdigit()]
        if frames:
            rows = pd.concat(frames, ignore_index=True)
            stages.append(rows.sort_values(_ORDER[table.name], kind="stable"))
    return pd.concat(stages, ignore_index=True) if stages else table.frame()
