"""A small complete run with every kind of stage, and a competent forger: what he changes in a copy he seals again in
the manifest, and the derived tables follow."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from robusteval import Run, open_checkpoint, read_images, run_audit
from robusteval.results.files import checksum, read_cost, read_frame, write_frame
from robusteval.results.manifest import NAME
from robusteval.results.tabulate import write_tables

COUNT, BATCH = 8, 5
PROTOCOL = """
name = "every-kind"

[budgets]
linf = [0.05, 0.1, 0.2]

[[attacks]]
method = "pgd"
norm = "linf"
steps = 2

[[attacks]]
method = "fgsm"
name = "every"
norm = "linf"
every_budget = true

[[attacks]]
method = "deepfool"
norm = "l2"

[[attacks]]
method = "transfer"
norm = "linf"

[[certificates]]
method = "l-bound"
norm = "l2"
batches = 5

[[certificates]]
method = "smoothing"
sigma = 0.25
n0 = 5
n = 20

[[certificates]]
method = "lipschitz"
norm = "l2"

[[metrics]]
method = "noise"
sigmas = [0.2]
samples = 2

[[metrics]]
method = "jacobian-spectrum"
ranks = 2
witnesses = "pgd-linf"

[[metrics]]
method = "activation-maximization"
steps = 2

[calibration]
delta = 0.2
"""


def audited(folder: Path, demo: Path, sources: bool = True) -> Run:
    """The run that is forged; without `sources` its transfer attack is unavailable."""
    images = read_images("digits", COUNT)

    def opened(name: str) -> Any:
        return open_checkpoint(str(demo / f"{name}.safetensors"), "digits-cnn", input_shape=images.shape)

    (folder / "every-kind.toml").write_text(PROTOCOL)
    others = [opened("digits-pgd-linf")] if sources else []
    protocol, out = str(folder / "every-kind.toml"), folder / "run"
    return run_audit(
        opened("digits-standard"), images, protocol, out, sources=others, batch_size=BATCH, dtype="float64"
    )


def copied(run: Run, folder: Path) -> Run:
    """The run in another folder, to be forged."""
    return Run.open(shutil.copytree(run.path, folder))


def sealed(run: Run) -> Run:
    """The run with the checksums of what lies in it now, and with tables that follow."""
    write_tables(run)
    found = [p for folder in ("parts", "witnesses") for p in (run.path / folder).rglob("*") if p.is_file()]
    return run.updated(evidence={p.relative_to(run.path).as_posix(): checksum(p) for p in sorted(found)})


def other(value: Any) -> Any:
    """Another value of the same type."""
    if isinstance(value, bool | np.bool_):
        return not value
    if isinstance(value, str):
        return f"{value}x"
    if isinstance(value, int | np.integer):
        return int(value) + 1
    if isinstance(value, float | np.floating):
        return float(value) * 1.5 + 0.125 if np.isfinite(value) else 0.125
    return "x"


def forge_cells(path: Path, columns: Iterable[tuple[int, str]]) -> None:
    """Another value in each of some cells of a part or a table; what it cost stays."""
    frame, cost = read_frame(path), read_cost(path)
    for row, column in columns:
        values = frame[column].tolist()
        values[row] = other(values[row])
        frame[column] = pd.Series(values, dtype=frame[column].dtype)
    write_frame(path, frame, cost)


Key = tuple[str | int, ...]


def leaves(tree: Any, key: Key = ()) -> Iterator[tuple[Key, Any]]:
    """Every value of a JSON document that is no list or object, or an empty one, by its keys."""
    pairs: Iterable[tuple[str | int, Any]] = ()
    if isinstance(tree, Mapping):
        pairs = tree.items()
    elif isinstance(tree, list):
        pairs = enumerate(tree)
    found = list(pairs)
    if not found:
        yield key, tree
    for name, value in found:
        yield from leaves(value, (*key, name))


def forge_key(run: Run, key: Key) -> None:
    """Another value of a key of the manifest."""
    path = run.path / NAME
    document = json.loads(path.read_text())
    place = document
    for name in key[:-1]:
        place = place[name]
    value = place[key[-1]]
    place[key[-1]] = {"x": "x"} if value == {} else ["x"] if value == [] else other(value)
    path.write_text(json.dumps(document))
