"""Verification: every claim of a run is checked again, by the model and against the evidence."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import zip_longest

import numpy as np
import pandas as pd
import torch

from robusteval.attacks.base import Attack
from robusteval.attacks.judge import judge
from robusteval.auditing.hardware import DTYPES, choose_device
from robusteval.auditing.plan import Shard, Stage, plan
from robusteval.auditing.protocol import parse_protocol
from robusteval.auditing.session import Session
from robusteval.auditing.stages import Context
from robusteval.core.errors import UserError
from robusteval.core.images import Images
from robusteval.core.progress import Progress, Silent
from robusteval.models.checkpoints import open_checkpoint
from robusteval.models.classifier import Classifier
from robusteval.results.run import CLEAN, Run, checksum, read_arrays, read_frame, stored_witness
from robusteval.results.tabulate import bounds_csv, build_tables

_KEYS = ("image_id", "method", "quantity", "at", "budget")
_EXACT = 1e-12
_ROUNDING = {"float32": 1e-3, "float64": 1e-8}
"""Relative tolerance for numbers that the model computes again, perhaps on another machine."""


def verify(
    run: Run, classifier: Classifier | None = None, progress: Progress | None = None, recompute: bool = True
) -> Iterator[str]:
    """Yield one line for each claim that does not hold, naming the file or the row; nothing for an honest run.

    Checked: each file of evidence has the checksum of the manifest; the tables follow from the parts, row by
    row, and the bounds from the tables; the images are those of the data set's fingerprint; the model has its
    fingerprint; each prediction, margin and witness (class, success and four distances) holds when the model is
    run again; each certificate, statistic and measurement comes out again from its random stream. The model is
    opened from the manifest's path unless it is given. Costs are not measured again. Without `recompute`,
    certificates and metrics are held against the sealed evidence only, not computed again.
    """
    if run.manifest["status"] != "complete":
        raise UserError(f"expected a finished run in {run.path}, got an unfinished one; its audit continues it")
    yield from _check_files(run)
    try:
        yield from _check_tables(run)
        images = _images(run)
    except UserError as error:
        yield str(error)
        return
    if images.fingerprint() != run.manifest["data"]["fingerprint"]:
        yield "the images in witnesses/clean or their labels are not those of the manifest's data fingerprint"
    classifier = classifier or open_model(run)
    if classifier.fingerprint != run.manifest["model"]["fingerprint"]:
        yield f"the model {classifier.name} has another fingerprint than the one audited"
        return
    kinds = (CLEAN, "attack", "certificate", "metric") if recompute else (CLEAN, "attack")
    yield from _Recheck(run, classifier, images, progress or Silent()).findings(kinds)


class _Recheck:
    """The stages of a run, run again shard by shard and held against its parts."""

    def __init__(self, run: Run, classifier: Classifier, images: Images, progress: Progress) -> None:
        on, dtype = choose_device("auto"), run.manifest["dtype"]
        classifier = classifier.to(on, DTYPES[dtype])
        self.run, self.progress, self.tolerance = run, progress, _ROUNDING[dtype]
        self.images = images.to(on, DTYPES[dtype])
        sources = [classifier] * len(run.manifest["sources"])
        context = Context(classifier, sources, run.manifest["seed"])
        self.session = Session(run, context, self.images, progress)
        stages = plan(parse_protocol(run.manifest["protocol"], "manifest.json"), sources)
        self.stages = [
            Stage(entry["name"], stage.method, stage.budgets)
            for stage, entry in zip(stages, run.stages(), strict=True)
            if entry["status"] == "done"
        ]
        self.classifier = classifier

    def findings(self, kinds: tuple[str, ...]) -> Iterator[str]:
        for stage in (s for s in self.stages if s.kind in kinds):
            self.progress.stage(stage.name, 0, len(self.images))
            for shard in self.session.shards_of(stage):
                try:
                    yield from self._check(stage, shard)
                except UserError as error:
                    yield str(error)
                self.progress.advance(len(shard.images))

    def _check(self, stage: Stage, shard: Shard) -> Iterator[str]:
        path = self.run.part(stage.name, shard.name)
        stored = read_frame(path)
        if stage.kind == "attack":
            yield from self._check_witnesses(stage, shard, stored)
            return
        part = self.session.work(stage)(shard)
        where = f"stage {stage.name}"
        yield from differences(where, stored, part.rows, self.tolerance)
        for table, rows in part.others.items():
            kept = read_frame(self.run.part(stage.name, shard.name, table))
            yield from differences(where, kept, rows, self.tolerance)

    def _check_witnesses(self, stage: Stage, shard: Shard, stored: pd.DataFrame) -> Iterator[str]:
        assert isinstance(stage.method, Attack)
        arrays = read_arrays(self.run.array_file(stage.name, shard.name))
        correct = self.session.correct(shard).tolist()
        for budget in stage.budgets:
            at = float("nan") if budget is None else budget
            same = stored["budget"].isna() if budget is None else stored["budget"] == budget
            rows = stored[same].reset_index(drop=True)
            candidates = shard.images.pixels.clone()
            for i, image_id in enumerate(shard.images.ids):
                array = stored_witness(arrays, image_id, at, (b for b in stage.budgets if b is not None))
                if array is not None:
                    candidates[i] = torch.tensor(array).to(candidates)
                elif rows["success"][i] and correct[i]:
                    yield f"stage {stage.name}, image {image_id}: the table claims a witness, no image is kept"
            verdict = judge(self.classifier, shard.images, candidates, stage.method.norm, budget)
            again = rows.assign(
                image_id=list(shard.images.ids),
                **{
                    name: getattr(verdict, name).cpu().numpy()
                    for name in ("success", "predicted", "l0", "l1", "l2", "linf")
                },
            )
            yield from differences(f"witnesses of {stage.name}", rows, again, 1e-9)


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
    sealed: dict[str, str] = run.manifest["evidence"]
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
        raise UserError(f"expected the image of every image in witnesses/{CLEAN}, got none of {missing[0]}")
    pixels = torch.stack([torch.tensor(arrays[i]) for i in rows["image_id"]])
    data = run.manifest["data"]
    labels = torch.tensor(rows["label"].tolist())
    return Images(tuple(rows["image_id"]), pixels, labels, tuple(data["class_names"]), data["source"])


def open_model(run: Run, checkpoint: str | None = None) -> Classifier:
    """The audited model, from the manifest's path or from another file that holds the same weights."""
    model = run.manifest["model"]
    path = checkpoint or model["path"]
    if path is None:
        raise UserError("expected the model to be given, since that of the run came from no file")
    return open_checkpoint(
        path, model["arch"], input_shape=tuple(model["input_shape"]), mean=model["mean"], std=model["std"]
    )
