"""The tables of a run, put together from its parts. Imports no torch."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from robusteval.results.below import as_csv, write_below
from robusteval.results.bracket import bracket
from robusteval.results.calibrate import calibrate
from robusteval.results.records import StageRecord
from robusteval.results.run import Run, read_frame, write_frame
from robusteval.results.shards import planned_files
from robusteval.results.tables import (
    CALIBRATION_TABLE,
    CERTIFICATES_TABLE,
    IMAGES_TABLE,
    MEASUREMENTS_TABLE,
    STATISTICS_TABLE,
    WITNESSES_TABLE,
    Table,
)

_ORDER = {
    "images": ["image_id"],
    "witnesses": ["budget", "image_id"],
    "certificates": ["image_id"],
    "measurements": ["quantity", "at", "image_id"],
    "statistics": ["quantity", "at"],
}
"""How the rows of one stage are ordered, whatever shards they came in."""
_BOUNDING = (IMAGES_TABLE, WITNESSES_TABLE, CERTIFICATES_TABLE)
"""What the bounds follow from."""


def build_tables(run: Run) -> dict[str, pd.DataFrame]:
    """Every table, from the parts alone: stages in the order of the manifest."""
    tables = {t.name: _collect(run, t) for t in (*_BOUNDING, MEASUREMENTS_TABLE, STATISTICS_TABLE)}
    bounds, table = bracket(*(tables[t.name] for t in _BOUNDING)), CALIBRATION_TABLE.frame()
    asked = run.manifest.protocol.calibration
    if asked is not None:
        bounds, table = calibrate(bounds, tables["certificates"], asked, run.manifest.seed)
    return {**tables, "bounds": bounds, "calibration": table}


def build_bounds(run: Run) -> pd.DataFrame:
    """The bounds alone, of what the run holds by now, without their calibration."""
    return bracket(*(_collect(run, table) for table in _BOUNDING))


def write_tables(run: Run) -> None:
    """Write tables/*.parquet and tables/bounds.csv."""
    for name, frame in build_tables(run).items():
        write_frame(run.path / "tables" / f"{name}.parquet", frame)
        if name == "bounds":
            write_below(run.path, "tables/bounds.csv", as_csv(frame))


def bounds_csv(run: Run) -> Path:
    return run.path / "tables" / "bounds.csv"


def _collect(run: Run, table: Table) -> pd.DataFrame:
    """The rows of a table: of the planned shards of the stages that are done, and of nothing else that lies there."""
    stages = []
    for record in run.manifest.ran(StageRecord):
        files = [(p.required, run.path / p.path) for p in planned_files(run.manifest, record) if p.table is table]
        frames = [read_frame(path) for required, path in files if required or path.is_file()]
        if frames:
            rows = pd.concat(frames, ignore_index=True)
            stages.append(rows.sort_values(_ORDER[table.name], kind="stable"))
    return pd.concat(stages, ignore_index=True) if stages else table.frame()
