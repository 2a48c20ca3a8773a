"""One audit: a classifier, images and a protocol become a run directory, or continue one."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pandas as pd

from robusteval.auditing.endings import ended_by, left_unanswered
from robusteval.auditing.engines import Engine, Result, Work, local
from robusteval.auditing.evidence import RunEvidence
from robusteval.auditing.gathering import gather
from robusteval.auditing.hardware import DTYPES, best_throughput
from robusteval.auditing.keeping import remove_needed, write_part
from robusteval.auditing.plan import plan
from robusteval.auditing.protocol import Protocol, read_protocol
from robusteval.auditing.request import alone_in, asked_images, new_manifest, now, open_or_create
from robusteval.auditing.stages.base import Context, Stage, cut
from robusteval.core.device import choose_device, describe, forget
from robusteval.core.errors import RefutedError, UnsupportedError, UserError
from robusteval.core.images import Images
from robusteval.core.memory import is_out_of_memory
from robusteval.core.progress import Progress, Silent, preparing, share_of_work
from robusteval.core.streams import check_seed
from robusteval.models.averaged import averaged
from robusteval.models.behaviour import Traits, not_a_function
from robusteval.models.classifier import Classifier
from robusteval.results.atomic import EVERY, Landing, writing
from robusteval.results.files import checksum, read_cost, read_frame, write_frame
from robusteval.results.keeping import kept_ids
from robusteval.results.manifest import MOST_AVERAGED
from robusteval.results.mending import remove_damaged, remove_lacking, remove_leftovers
from robusteval.results.places import working_at
from robusteval.results.records import CLEAN, SANITY, Cost, MethodRecord
from robusteval.results.run import Run
from robusteval.results.shards import OF_SET, planned_files
from robusteval.results.tabulate import refuted, write_tables
from robusteval.sanity import SanityWarning, sanity_warnings


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
    strict: bool = False,
    eot: int = 1,
    sample: int | None = None,
    evidence: str = "all",
) -> Run:
    """Run a protocol on a classifier and images; leave tables and evidence in the directory `out`, or at that URL.

    Where the model's card and the data both name their classes, labels are those of the model, by name. A directory
    that holds an unfinished run of the same model, data, protocol, seed and dtype is continued with the parts that are
    missing; anything else in it is refused with a UserError, and stays as it is. `strict` makes the sanity warnings
    errors, before the first method runs. `eot` averages a model with random outputs over so many evaluations. A method
    that an error stops is recorded as failed, and the run ends as incomplete: the same audit tries it again.
    `evidence` says whose images and witnesses are kept: of "all", of a "sample" drawn by the seed, or of "none".
    Results do not depend on the batch size or the order of the images, up to floating-point reassociation,
    except those of stages that the manifest marks with `batch_independent: false`.
    """
    if dtype not in DTYPES:
        raise UserError(f"expected --dtype {' or '.join(DTYPES)}, got '{dtype}'")
    check_seed(seed)
    on, precision = choose_device(device), DTYPES[dtype]
    protocol = read_protocol(protocol) if isinstance(protocol, str) else protocol
    images, protocol = asked_images(classifier, sources, images, protocol)
    if not isinstance(eot, int) or not 1 <= eot <= MOST_AVERAGED:
        raise UserError(f"expected --eot of at least 1 and at most {MOST_AVERAGED}, got {eot}")
    placed = [averaged(model.to(on, precision), eot) for model in (classifier, *sources)]
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
        averaged=eot,
        sample=sample,
        evidence=evidence,
    )
    with working_at(out) as folder, alone_in(folder):
        run = open_or_create(folder, asked, batch_size, lambda: best_throughput(placed[0], on, precision))
        remove_leftovers(run.path)
        (progress := progress or Silent()).begins(classifier.name, [stage.name for stage in stages])
        for found in (*remove_damaged(run), *remove_lacking(run)):
            progress.warn(f"{found} is missing or damaged, it is computed again")
        placed = [replace(model, batch_size=run.manifest.batch_size) for model in placed]
        context = Context(placed[0], tuple(placed[1:]), seed, placed[0], run.manifest.batch_size)
        session = Session(run, context, images.to(on, precision), progress, engine)
        session.look([stage for stage in stages if stage.essential], strict)
        for stage in stages:
            if not stage.essential:
                session.run_stage(stage)
        return session.finish()


class Session:
    """The edge between the stages and the run directory: reads what is there, computes and writes the rest."""

    def __init__(self, run: Run, context: Context, images: Images, progress: Progress, engine: Engine = local) -> None:
        self.run, self.context, self.images = run, context, images
        self.progress, self.engine, self.landing = progress, engine, Landing()
        self.evidence = RunEvidence(run, cut(images, run.manifest.shard_size))
        self.kept = kept_ids(run.manifest, images.ids)
        self.traits = Traits(random=False, seedable=True, batch_dependent=False, single=True)

    def look(self, stages: Sequence[Stage], strict: bool = False) -> None:
        """The stages that the others rest on, the model served from then on as the sanity stage found that it must be;
        then the warnings of robusteval/sanity, which are errors if `strict`."""
        for stage in stages:
            self.run_stage(stage)
            record = self.run.manifest.stage(stage.name)
            if not record.done:
                raise UserError(left_unanswered(self.context.classifier, self.images, record.reason))
            if stage.name == SANITY:
                self.traits = self.evidence.traits()
                self.context = replace(self.context, classifier=self.traits.served(self.context.classifier))
        if self.traits.lacking:
            for record in self.run.manifest.of(MethodRecord):
                self.run = self.run.with_stage(record.model_copy(update={"batch_independent": False}))
        for found in self._warnings():
            if strict:
                raise UserError(f"expected no sanity warning with --strict, got: {found}")
            self.progress.warn(str(found))

    def run_stage(self, stage: Stage) -> None:
        """Compute the shards that are missing. A method that cannot run here is noted, and so is one that an error
        stops, with its traceback: the others go on."""
        record, kept = self.run.manifest.stage(stage.name), self.run.path / "failures" / f"{stage.name}.txt"
        if record.status == "unavailable" and not self.evidence.has_needs(stage.name):
            return
        with writing(kept):
            kept.unlink(missing_ok=True)
        try:
            if stage.unavailable:
                raise UnsupportedError(stage.unavailable)
            if stage.of_functions and self.traits.lacking:
                raise not_a_function(self.context.classifier.name, self.traits.lacking)
            self._compute(stage)
            ended = {"status": "done", "reason": ""}
        except Exception as error:
            ended = ended_by(error, kept)
        self.run = self.run.with_stage(record.model_copy(update=ended))
        if ended["status"] != "done":
            self.progress.stopped(stage.name, ended["status"])
        if stage.may_refute:
            self._stop_if_refuted(stage.name)

    def finish(self) -> Run:
        """Put the parts together, price the stages, and seal the evidence; the manifest is written once."""
        priced = []
        for record in self.run.manifest.stages:
            parts = [self.run.path / p.path for p in planned_files(self.run.manifest, record) if p.table is not None]
            cost = sum((read_cost(p) for p in parts if p.is_file()), Cost())
            priced.append(record.model_copy(update={"cost": cost}))
        write_tables(self.run)
        self.run = self.run.updated(
            stages=tuple(priced),
            evidence={p.relative_to(self.run.path).as_posix(): checksum(p) for p in self.run.evidence()},
            status="incomplete" if self.run.manifest.failed else "complete",
            finished=self.run.manifest.finished or now(),
        )
        remove_needed(self.run)
        return self.run

    def _warnings(self) -> Sequence[SanityWarning]:
        clean = pd.concat([read_frame(self.run.part(CLEAN, s.name)) for s in self.evidence.shards()], ignore_index=True)
        statistics = read_frame(self.run.part(SANITY, "00000", "statistics"))
        manifest = self.run.manifest
        return sanity_warnings(clean, statistics, manifest.model.num_classes, manifest.data.class_names)

    def _compute(self, stage: Stage) -> None:
        try:
            while not self._computed(stage):
                forget()
        finally:
            self.landing.land()

    def _computed(self, stage: Stage) -> bool:
        """Whether all is there; else memory ran out, and the models are given half as many images at a time from now
        on. Not those whose outputs depend on how many that are."""
        pieces = stage.shards(self.images, self.run.manifest.shard_size)
        missing = [s for s in pieces if not self.run.part(stage.name, s.name).exists()]
        try:
            work, progress = Work(stage, self.context), self.progress
            spent = gather(work, missing, self.run, self.evidence, self.engine, progress, self.landing)
            if stage.prepares:
                self._prepare(stage, spent)
            fed = (stage.feed(shard, self.evidence).loaded() for shard in missing)
            sizes = {shard.name: len(shard.images) for shard in missing}
            progress.stage(stage.name, len(self.images) - sum(sizes.values()), len(self.images))
            engine = local if stage.reads_itself else self.engine
            for result in engine(work, fed, share_of_work(progress, len(self.images))):
                self._write(stage, result, Cost() if stage.prepares else spent)
                progress.advance(sizes[result.shard.name])
        except Exception as error:
            fewer = self.context.with_less_memory() if is_out_of_memory(error) and not self.traits.lacking else None
            if fewer is None:
                raise
            self.context = fewer
            self.evidence.here.clear()
            self.progress.warn(f"out of memory in {stage.name}: from here on {fewer.opened.at_once} images at a time")
            return False
        return True

    def _prepare(self, stage: Stage, spent: Cost) -> None:
        if not (path := self.run.part(stage.name, OF_SET, "statistics")).exists():
            start = time.perf_counter()
            part = stage.prepare(self.context, self.images, self.evidence, preparing(self.progress, stage.name))
            write_frame(path, part.rows, part.timed(time.perf_counter() - start) + spent)

    def _write(self, stage: Stage, result: Result, spent: Cost) -> None:
        shard, part = result.shard.name, replace(result.part, cost=result.part.cost + spent)
        write_part(self.run, stage, shard, part, result.seconds + spent.seconds, self.landing, self.kept)
        self.landing.land(EVERY)
        self.evidence.here.add((stage.name, shard))

    def _stop_if_refuted(self, last: str) -> None:
        """Raise RefutedError where a witness lies inside a proven radius, with the tables of the stages up to `last`
        written: of later ones, which an earlier process may have done, parts may be missing."""
        stages = self.run.manifest.stages
        done = stages[: [record.name for record in stages].index(last) + 1]
        by_now = replace(self.run, manifest=self.run.manifest.model_copy(update={"stages": done}))
        if lines := refuted(by_now):
            write_tables(by_now)
            raise RefutedError(
                f"expected no witness inside a proven radius, got {len(lines)} in {self.run.path}: {lines[0]}; one of "
                f"the two is wrong, please report it with that directory (tables/bounds.csv lists all)"
            )
