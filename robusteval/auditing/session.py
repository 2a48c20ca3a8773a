"""One audit: a classifier, images and a protocol become a run directory, or continue one."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from robusteval.auditing import request
from robusteval.auditing.engines import Engine, Work, local
from robusteval.auditing.fit import check_fit
from robusteval.auditing.hardware import DTYPES, best_batch_size, choose_device, describe
from robusteval.auditing.plan import Shard, Stage, plan, shards
from robusteval.auditing.protocol import Protocol as AuditProtocol
from robusteval.auditing.protocol import read_protocol
from robusteval.auditing.stages import (
    Context,
    Part,
    attack,
    certificate,
    clean,
    closest_witnesses,
    metric,
    prepare,
    read_state,
    set_metric,
)
from robusteval.certify.base import Certificate
from robusteval.core.errors import RefutedError, UnsupportedError, UserError
from robusteval.core.images import Images
from robusteval.core.methods import Guarantee, Step
from robusteval.core.progress import Progress, Silent
from robusteval.metrics.base import Metric, SetMetric
from robusteval.models.classifier import Classifier
from robusteval.results.bracket import refuted_proofs
from robusteval.results.run import (
    CLEAN,
    COSTS,
    Run,
    checksum,
    read_arrays,
    read_frame,
    read_note,
    write_arrays,
    write_frame,
)
from robusteval.results.tabulate import write_tables


def run_audit(
    classifier: Classifier,
    images: Images,
    protocol: str | AuditProtocol = "quick",
    out: str | Path = "run",
    *,
    sources: Sequence[Classifier] = (),
    seed: int = 0,
    device: str = "auto",
    dtype: str = "float32",
    batch_size: int | str = "auto",
    progress: Progress | None = None,
    engine: Engine = local,
    command: Sequence[str] = (),
    limit: int | None = None,
) -> Run:
    """Run a protocol on a classifier and images; leave tables and evidence in the directory `out`.

    A directory that holds an unfinished run of the same model, data, protocol, seed and dtype is continued
    with the parts that are missing; anything else in it is refused with a UserError, and stays as it is.
    Results do not depend on the batch size or the order of the images, up to floating-point reassociation,
    except those of stages that the manifest marks with `batch_independent: false`.
    """
    if dtype not in DTYPES:
        raise UserError(f"expected --dtype {' or '.join(DTYPES)}, got '{dtype}'")
    on, precision = choose_device(device), DTYPES[dtype]
    protocol = read_protocol(protocol) if isinstance(protocol, str) else protocol
    images.checked()
    for model in (classifier, *sources):
        check_fit(model, images)
    placed = [model.to(on, precision) for model in (classifier, *sources)]
    asked = request.manifest(
        classifier, sources, images, protocol, seed=seed, dtype=dtype, command=command, limit=limit
    )
    asked |= {"device": describe(on), "stages": [stage.as_json() for stage in plan(protocol, sources)]}
    run = request.open_or_create(Path(out), asked, batch_size, lambda: best_batch_size(placed[0], on, precision))
    placed = [replace(model, batch_size=run.manifest["batch_size"]) for model in placed]
    session = Session(run, Context(placed[0], placed[1:], seed), images.to(on, precision), progress or Silent(), engine)
    for stage in plan(protocol, sources):
        session.run_stage(stage)
    return session.finish()


class Session:
    """The edge between the stages and the run directory: reads what is there, computes and writes the rest."""

    def __init__(self, run: Run, context: Context, images: Images, progress: Progress, engine: Engine = local) -> None:
        self.run, self.context, self.images = run, context, images
        self.progress, self.engine = progress, engine
        self.shards = shards(images, run.manifest["batch_size"])

    def run_stage(self, stage: Stage) -> None:
        """Compute the shards that are missing; a method that cannot run here is noted, not fatal."""
        pieces = self.shards_of(stage)
        missing = [s for s in pieces if not self.run.part(stage.name, s.name).exists()]
        entry = next(s for s in self.run.manifest["stages"] if s["name"] == stage.name)
        try:
            if stage.unavailable:
                raise UnsupportedError(stage.unavailable)
            work, done = self.work(stage), len(self.images) - sum(len(s.images) for s in missing)
            self.progress.stage(stage.name, done, len(self.images))
            for shard, part, seconds in self.engine(work, missing):
                self._write(stage, shard.name, part, seconds)
                self.progress.advance(len(shard.images))
            entry |= {"status": "done", "reason": ""}
        except UnsupportedError as error:
            entry |= {"status": "unavailable", "reason": str(error)}
        self.run.write_manifest()
        if isinstance(stage.method, Certificate) and stage.method.kind is Guarantee.PROOF:
            self._stop_if_refuted()

    def shards_of(self, stage: Stage) -> tuple[Shard, ...]:
        """The images cut into batches; all of them together for a metric of the whole set."""
        return shards(self.images, len(self.images)) if isinstance(stage.method, SetMetric) else self.shards

    def work(self, stage: Stage) -> Work:
        """What is to be done with each shard."""
        if stage.kind == CLEAN:
            return lambda shard: clean(self.context, shard.images)
        if stage.kind == "attack":
            return lambda shard: attack(self.context, stage, shard.images, self.correct(shard))
        if isinstance(stage.method, Certificate):
            state = read_state(self._statistics(stage))
            return lambda shard: certificate(self.context, stage, shard.images, state)
        if isinstance(stage.method, SetMetric):
            return lambda shard: set_metric(
                self.context, stage, shard.images, self._witnesses(stage, self.shards), self._within(len(shard.images))
            )
        return lambda shard: metric(self.context, stage, shard.images, self._witnesses(stage, (shard,)))

    def _stop_if_refuted(self) -> None:
        """Raise RefutedError where a witness lies inside a proven radius, with the tables written as they are."""
        write_tables(self.run)
        if lines := refuted_proofs(self.run.bounds()):
            raise RefutedError(
                f"expected no witness inside a proven radius, got {len(lines)} in {self.run.path}: {lines[0]}; one of "
                f"the two is wrong, please report it with that directory (tables/bounds.csv lists all)"
            )

    def finish(self) -> Run:
        """Put the parts together, price the stages, and seal the evidence."""
        manifest = self.run.manifest
        for entry in manifest["stages"]:
            parts = sorted((self.run.path / "parts" / entry["name"]).glob("*.parquet"))
            notes = [read_note(p) for p in parts]
            entry |= {k: sum(n[k] for n in notes) for k in COSTS}
        write_tables(self.run)
        manifest["evidence"] = {str(p.relative_to(self.run.path)): checksum(p) for p in self.run.evidence()}
        manifest["status"] = "complete"
        manifest["finished"] = manifest["finished"] or request.now()
        self.run.write_manifest()
        return self.run

    def _write(self, stage: Stage, shard: str, part: Part, seconds: float) -> None:
        if part.arrays or stage.kind in (CLEAN, "attack"):
            write_arrays(self.run.array_file(stage.name, shard), part.arrays)
        for table, rows in part.others.items():
            write_frame(self.run.part(stage.name, shard, table), rows)
        write_frame(self.run.part(stage.name, shard), part.rows, part.note(seconds))

    def correct(self, shard: Shard) -> torch.Tensor:
        """Which images of a shard the model classifies correctly, (N,) bool, from the clean stage."""
        rows = read_frame(self.run.part(CLEAN, shard.name))
        return torch.tensor(rows["correct"].to_numpy(), device=self.images.pixels.device)

    def _statistics(self, stage: Stage) -> Any:
        path = self.run.part(stage.name, "set", "statistics")
        if not path.exists():
            start = time.perf_counter()
            part = prepare(self.context, stage, self.images, self._preparing(stage))
            write_frame(path, part.rows, part.note(time.perf_counter() - start))
        return read_frame(path)

    def _within(self, images: int) -> Step:
        """Moves the bar of a stage that is one shard, which counts images, by the share of its work."""
        shown = 0

        def step(done: int, total: int) -> None:
            nonlocal shown
            self.progress.advance(images * done // total - shown)
            shown = images * done // total

        return step

    def _preparing(self, stage: Stage) -> Step:
        """A progress bar of its own for what a certificate learns from the whole set."""
        shown = 0

        def step(done: int, total: int) -> None:
            nonlocal shown
            if shown == 0:
                self.progress.stage(f"{stage.name}, preparing", 0, total)
            self.progress.advance(done - shown)
            shown = done

        return step

    def _witnesses(self, stage: Stage, pieces: Sequence[Shard]) -> torch.Tensor | None:
        """The closest witnesses of the images of some shards, if the metric needs them."""
        assert isinstance(stage.method, Metric)
        needed = stage.method.witnesses_of
        if needed is None:
            return None
        found = []
        for shard in pieces:
            path = self.run.part(needed, shard.name)
            if not path.exists():
                raise UnsupportedError(f"expected witnesses of '{needed}', which could not run")
            arrays = read_arrays(self.run.array_file(needed, shard.name))
            found.append(closest_witnesses(read_frame(path), arrays, shard.images))
        return torch.cat(found)
