"""One audit: a classifier, images and a protocol become a run directory, or continue one."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from robusteval.auditing.engines import Engine, Work, local
from robusteval.auditing.evidence import RunEvidence
from robusteval.auditing.hardware import DTYPES, best_batch_size
from robusteval.auditing.plan import plan
from robusteval.auditing.protocol import Protocol, read_protocol
from robusteval.auditing.request import new_manifest, now, open_or_create
from robusteval.auditing.stages.base import Context, Part, Stage, cut
from robusteval.core.device import choose_device, describe
from robusteval.core.errors import RefutedError, UnsupportedError, UserError
from robusteval.core.images import Images
from robusteval.core.methods import Step
from robusteval.core.progress import Progress, Silent
from robusteval.models.classifier import Classifier
from robusteval.models.plain import check_fit
from robusteval.results.bracket import refuted_proofs
from robusteval.results.manifest import Cost
from robusteval.results.run import Run, checksum, read_cost, write_arrays, write_frame
from robusteval.results.tabulate import write_tables


def run_audit(
    classifier: Classifier,
    images: Images,
    protocol: str | Protocol = "quick",
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
    sample: int | None = None,
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
    stages = plan(protocol, sources)
    asked = new_manifest(
        classifier,
        sources,
        images,
        protocol,
        stages,
        seed=seed,
        dtype=dtype,
        device=describe(on),
        command=command,
        limit=limit,
        sample=sample,
    )
    run = open_or_create(Path(out), asked, batch_size, lambda: best_batch_size(placed[0], on, precision))
    placed = [replace(model, batch_size=run.manifest.batch_size) for model in placed]
    context = Context(placed[0], tuple(placed[1:]), seed)
    session = Session(run, context, images.to(on, precision), progress or Silent(), engine)
    for stage in stages:
        session.run_stage(stage)
    return session.finish()


class Session:
    """The edge between the stages and the run directory: reads what is there, computes and writes the rest."""

    def __init__(self, run: Run, context: Context, images: Images, progress: Progress, engine: Engine = local) -> None:
        self.run, self.context, self.images = run, context, images
        self.progress, self.engine = progress, engine
        self.evidence = RunEvidence(run, cut(images, run.manifest.batch_size))

    def run_stage(self, stage: Stage) -> None:
        """Compute the shards that are missing; a method that cannot run here is noted, not fatal."""
        record = self.run.manifest.stage(stage.name)
        try:
            if stage.unavailable:
                raise UnsupportedError(stage.unavailable)
            self._compute(stage)
            ended = {"status": "done", "reason": ""}
        except UnsupportedError as error:
            ended = {"status": "unavailable", "reason": str(error)}
        self.run = self.run.with_stage(record.model_copy(update=ended))
        if stage.proves:
            self._stop_if_refuted()

    def finish(self) -> Run:
        """Put the parts together, price the stages, and seal the evidence."""
        for record in self.run.manifest.stages:
            parts = sorted((self.run.path / "parts" / record.name).glob("*.parquet"))
            cost = sum((read_cost(p) for p in parts), Cost())
            self.run = self.run.with_stage(record.model_copy(update={"cost": cost}))
        write_tables(self.run)
        self.run = self.run.updated(
            evidence={str(p.relative_to(self.run.path)): checksum(p) for p in self.run.evidence()},
            status="complete",
            finished=self.run.manifest.finished or now(),
        )
        return self.run

    def _compute(self, stage: Stage) -> None:
        pieces = stage.shards(self.images, self.run.manifest.batch_size)
        missing = [s for s in pieces if not self.run.part(stage.name, s.name).exists()]
        if stage.prepares:
            self._prepare(stage)
        fed = (stage.feed(shard, self.evidence) for shard in missing)
        done = len(self.images) - sum(len(s.images) for s in missing)
        self.progress.stage(stage.name, done, len(self.images))
        for result in self.engine(Work(stage, self.context), fed, self._within(len(self.images))):
            self._write(stage, result.shard.name, result.part, result.seconds)
            self.progress.advance(len(result.shard.images))

    def _prepare(self, stage: Stage) -> None:
        path = self.run.part(stage.name, "set", "statistics")
        if not path.exists():
            start = time.perf_counter()
            part = stage.prepare(self.context, self.images, self._preparing(stage))
            write_frame(path, part.rows, _timed(part, time.perf_counter() - start))

    def _write(self, stage: Stage, shard: str, part: Part, seconds: float) -> None:
        if part.arrays or stage.keeps_arrays:
            write_arrays(self.run.array_file(stage.name, shard), part.arrays)
        for table, rows in part.others.items():
            write_frame(self.run.part(stage.name, shard, table), rows)
        write_frame(self.run.part(stage.name, shard), part.rows, _timed(part, seconds))

    def _stop_if_refuted(self) -> None:
        """Raise RefutedError where a witness lies inside a proven radius, with the tables written as they are."""
        write_tables(self.run)
        if lines := refuted_proofs(self.run.bounds()):
            raise RefutedError(
                f"expected no witness inside a proven radius, got {len(lines)} in {self.run.path}: {lines[0]}; one of "
                f"the two is wrong, please report it with that directory (tables/bounds.csv lists all)"
            )

    def _within(self, images: int) -> Step:
        """Moves the bar of a stage that is one shard, which counts images, by the share of its work."""
        shown = 0

        def step(done: int, total: int) -> None:
            nonlocal shown
            self.progress.advance(images * done // total - shown)
            shown = images * done // total

        return step

    def _preparing(self, stage: Stage) -> Step:
        """A progress bar of its own for what a stage learns from the whole set."""
        shown = 0

        def step(done: int, total: int) -> None:
            nonlocal shown
            if shown == 0:
                self.progress.stage(f"{stage.name}, preparing", 0, total)
            self.progress.advance(done - shown)
            shown = done

        return step


def _timed(part: Part, seconds: float) -> Cost:
    return part.cost.model_copy(update={"seconds": seconds})
