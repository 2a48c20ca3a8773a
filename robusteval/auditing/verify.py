"""Verification: every claim of a run is checked again, by the model and against the evidence."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import replace
from itertools import zip_longest
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from robusteval.auditing.engines import Work
from robusteval.auditing.evidence import RunEvidence
from robusteval.auditing.hardware import DTYPES
from robusteval.auditing.plan import plan
from robusteval.auditing.protocol import parse_protocol
from robusteval.auditing.request import model_record, what_differs
from robusteval.auditing.stages.base import Context, Shard, Stage, cut
from robusteval.core import user_code
from robusteval.core.device import choose_device
from robusteval.core.errors import UserError
from robusteval.core.images import Images
from robusteval.core.progress import Progress, Silent
from robusteval.models.averaged import averaged
from robusteval.models.checkpoints import open_checkpoint
from robusteval.models.classifier import Classifier
from robusteval.results.manifest import NAME
from robusteval.results.records import CLEAN
from robusteval.results.run import Run, checksum, read_arrays, read_frame
from robusteval.results.tabulate import bounds_csv, build_tables

_KEYS = ("image_id", "method", "quantity", "at", "budget")
_EXACT = 1e-12
_DISTANCES = 1e-9
_ROUNDING = {"float32": 1e-3, "float64": 1e-8}
"""Relative tolerance for numbers that the model computes again, perhaps on another machine."""


def verify(
    run: Run,
    classifier: Classifier | None = None,
    progress: Progress | None = None,
    recompute: bool = True,
    trusted: Collection[Path] = (),
) -> Iterator[str]:
    """Yield one line for each claim that does not hold, naming the file or the row; nothing where every claim holds.

    Checked: each file of evidence has the checksum of the manifest; the tables follow from the parts, row by
    row, and the bounds from the tables; the images are those of the data set's fingerprint; the model has its
    fingerprint; each prediction, margin and witness (class, success and four distances) holds when the model is
    run again; each certificate, statistic and measurement comes out again from its random stream. The model is
    opened from the manifest's path unless it is given. Costs are not measured again. Without `recompute`,
    certificates and metrics are held against the sealed evidence only, not computed again. `trusted` are the Python
    files of the user's own methods and networks that may be run; a run that needs another raises UserError, as does
    one whose methods come from a package that is not here in that version.
    """
    if run.manifest.finished is None:
        raise UserError(f"expected a finished run in {run.path}, got an unfinished one; its audit continues it")
    yield from _check_files(run)
    try:
        yield from _check_tables(run)
        images = _images(run)
    except UserError as error:
        yield str(error)
        return
    if images.fingerprint() != run.manifest.data.fingerprint:
        yield "the images in witnesses/clean or their labels are not those of the manifest's data fingerprint"
    classifier = classifier or open_model(run, trusted=trusted)
    if classifier.fingerprint != run.manifest.model.fingerprint:
        differs = what_differs(run.manifest.model, model_record(classifier))
        yield f"the model {classifier.name} has another fingerprint than the one audited: {differs}"
        return
    yield from _Recheck(run, classifier, images, progress or Silent(), trusted).findings(everything=recompute)


def unchecked(run: Run) -> str:
    """What a verification of a finished run cannot check; empty where it can check everything."""
    if RunEvidence(run, ()).traits().repeatable:
        return ""
    return (
        "Not checked: predictions, witnesses, certificates and metrics by running the model, whose outputs cannot be "
        "computed again; files, tables and bounds were."
    )


class _Recheck:
    """The stages of a run, run again shard by shard and held against its parts."""

    def __init__(
        self, run: Run, classifier: Classifier, images: Images, progress: Progress, trusted: Collection[Path]
    ) -> None:
        manifest = run.manifest
        on, dtype = choose_device("auto"), DTYPES[manifest.dtype]
        self.run, self.progress, self.tolerance = run, progress, _ROUNDING[manifest.dtype]
        self.images = images.to(on, dtype)
        self.evidence = RunEvidence(run, cut(self.images, manifest.batch_size))
        traits = self.evidence.traits()
        placed = replace(averaged(classifier.to(on, dtype), manifest.averaged), batch_size=manifest.batch_size)
        self.context = Context(traits.served(placed), (), manifest.seed, opened=placed)
        protocol = parse_protocol(manifest.protocol.model_dump(mode="json", exclude_none=True), NAME, trusted)
        # What was made on other models is judged on this one; their names are all that is needed.
        stages = plan(protocol, [replace(classifier, name=source.name) for source in manifest.sources])
        done = [s for s, record in zip(stages, manifest.stages, strict=True) if record.done]
        self.stages = done if traits.repeatable else []

    def findings(self, everything: bool) -> Iterator[str]:
        for stage in (s for s in self.stages if everything or s.always_verified):
            self.progress.stage(stage.name, 0, len(self.images))
            for shard in stage.shards(self.images, self.run.manifest.batch_size):
                try:
                    yield from self._check(stage, stage.feed(shard, self.evidence))
                except UserError as error:
                    yield str(error)
                self.progress.advance(len(shard.images))

    def _check(self, stage: Stage, shard: Shard) -> Iterator[str]:
        stored = read_frame(self.run.part(stage.name, shard.name))
        kept = read_arrays(self.run.array_file(stage.name, shard.name)) if stage.keeps_arrays else {}
        where = f"stage {stage.name}"
        for image_id in stage.missing_witnesses(shard, stored, kept):
            yield f"{where}, image {image_id}: the table claims a witness, no image of it is kept"
        part = Work(stage, self.context).again(shard, stored, kept)
        yield from differences(where, stored, part.rows, _DISTANCES if stage.exact else self.tolerance)
        for table, rows in part.others.items():
            again = read_frame(self.run.part(stage.name, shard.name, table))
            yield from differences(where, again, rows, self.tolerance)


def differences(where: str, stored: pd.DataFrame, again: pd.DataFrame, tolerance: float) -> Iterator[str]:
    """One line for each row of `stored` that differs from `again`, naming the row and the first column."""
    if list(stored.columns) != list(again.columns) or len(stored) != len(again):
        yield f"{where}: expected {again.shape} rows and columns, got {stored.shape}"
        return
    named: set[int] = set()
    for name in again.columns:
        old, new = stored[name].to_numpy(), again[name].to_numpy()
        if np.issubdtype(new.dtype, np.floating):
            equal = np.isclose(old.astype(float), new, rtol=tolerance, atol=tolerance * 1e-3, equal_nan=True)
        else:
            equal = old == new
        for i in np.flatnonzero(~equal):
            if i not in named:
                named.add(int(i))
                keys = ", ".join(f"{k} {again[k].iloc[i]}" for k in _KEYS if k in again)
                yield f"{where}, row {i} ({keys}): {name} is {old[i]}, expected {new[i]}"


def _check_files(run: Run) -> Iterator[str]:
    sealed = run.manifest.evidence
    found = {str(p.relative_to(run.path)): p for p in run.evidence()}
    for name in sorted(sealed.keys() | found.keys()):
        if name not in found:
            yield f"{name} is missing"
        elif name not in sealed:
            yield f"{name} is not part of the run"
        elif checksum(found[name]) != sealed[name]:
            yield f"{name} was changed since the audit wrote it"


def _check_tables(run: Run) -> Iterator[str]:
    for name, again in build_tables(run).items():
        yield from differences(f"table {name}", run.table(name), again, _EXACT)
        if name == "bounds":
            lines = bounds_csv(run).read_text().splitlines()
            expected = again.to_csv(index=False).splitlines()
            for i, (line, wanted) in enumerate(zip_longest(lines, expected, fillvalue=""), start=1):
                if line != wanted:
                    yield f"tables/bounds.csv, line {i} ({wanted.split(',')[0]}) does not follow from the tables"


def _images(run: Run) -> Images:
    """The images of the run, from its own evidence."""
    rows = pd.concat([read_frame(p) for p in sorted((run.path / "parts" / CLEAN).glob("*.parquet"))])
    arrays = run.arrays(CLEAN)
    missing = [i for i in rows["image_id"] if i not in arrays]
    if missing:
        raise UserError(f"expected every image in witnesses/{CLEAN}, got none of {missing[0]}")
    pixels = torch.stack([torch.tensor(arrays[i]) for i in rows["image_id"]])
    data, labels = run.manifest.data, torch.tensor(rows["label"].tolist())
    return Images(tuple(rows["image_id"]), pixels, labels, data.class_names, data.source)


def open_model(run: Run, checkpoint: str | None = None, trusted: Collection[Path] = ()) -> Classifier:
    """The audited model, from the manifest's path or from another file that holds the same weights. Raises UserError
    where the network is built by a Python file that is not `trusted`: a manifest is data and runs nothing."""
    model = run.manifest.model
    path = checkpoint or model.path
    if path is None:
        raise UserError("expected the model to be given, since that of the run came from no file")
    arch = model.arch
    if arch is not None and (parts := user_code.file_and_name(arch)):
        file, function = parts
        arch = f"{user_code.permitted(file, trusted, f'the network {function}')[0]}:{function}"
    return open_checkpoint(
        path, arch, input_shape=model.input_shape, mean=model.mean, std=model.std, binary=model.binary, trusted=trusted
    )
