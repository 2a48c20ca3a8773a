"""Folders of Hugging Face's datasets: parquet shards as a repository has them, arrow shards as save_to_disk writes."""

from __future__ import annotations

import json
from contextlib import ExitStack
from pathlib import Path

from robusteval.core import limits
from robusteval.core.errors import UserError, first_line
from robusteval.core.images import Images
from robusteval.core.reading import Reading
from robusteval.data.arrow import arrow_table
from robusteval.data.columns import OF_TABLES, images_of_tables
from robusteval.data.parquet import parquet_table
from robusteval.data.shards import holds_shards, shards_of
from robusteval.data.wanted import Wanted

OF_FOLDERS = OF_TABLES | {"split"}
"""What can be asked of them."""
_KINDS = {".parquet": parquet_table, ".arrow": arrow_table}
_INFO = "dataset_info.json"


def holds_tables(spec: str) -> bool:
    """Whether a folder holds shards of a table, or a file is an arrow file."""
    return spec.lower().endswith(".arrow") or holds_shards(Path(spec), tuple(_KINDS))


def read_tables(spec: str, wanted: Wanted, reading: Reading) -> Images:
    """The rows of all shards of a split in their order, as images_of_tables reads them. The names of the classes are
    in the schema, else in dataset_info.json beside the shards. Raises UserError."""
    path = Path(spec)
    shards = shards_of(path, tuple(_KINDS), reading.split) if path.is_dir() else [path]
    with ExitStack() as opened:
        tables = [opened.enter_context(_KINDS[shard.suffix.lower()](str(shard))) for shard in shards]
        return images_of_tables(tables, spec, wanted, reading, _features(shards[0].parent))


def _features(folder: Path) -> object:
    """What dataset_info.json says of the columns, if it is there."""
    path = folder / _INFO
    if not path.is_file():
        return None
    content = limits.read_limited(path, limits.TEXT_BYTES, _INFO)
    try:
        found = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise UserError(f"expected JSON in {path}, got: {first_line(error)}") from error
    return found.get("features") if isinstance(found, dict) else None
