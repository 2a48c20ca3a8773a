"""What a stage gathers of the whole set before it begins: shard by shard, by the engine, kept in needed/."""

from __future__ import annotations

from collections.abc import Sequence

from robusteval.auditing.engines import Engine, Result, Work
from robusteval.auditing.evidence import RunEvidence
from robusteval.auditing.stages.base import Shard
from robusteval.core.errors import UserError
from robusteval.core.progress import PREPARING, Progress, share_of_work
from robusteval.results.atomic import EVERY, Landing
from robusteval.results.files import checksum, read_beside, read_cost, write_arrays, write_frame
from robusteval.results.records import Cost
from robusteval.results.run import Run
from robusteval.results.shards import OF_SET


def gather(
    work: Work,
    missing: Sequence[Shard],
    run: Run,
    evidence: RunEvidence,
    engine: Engine,
    progress: Progress,
    landing: Landing,
) -> Cost:
    """Gather of each shard what a stage, of which these are missing, learns from it, unless that is there. What all
    of it took, now and before."""
    stage, shards = work.stage.gatherer, evidence.shards()
    learned = run.part(work.stage.name, OF_SET, "statistics").exists() if work.stage.prepares else not missing
    if stage is None or learned:
        return Cost()
    left = [shard for shard in shards if not _is_whole(run, stage.name, shard.name)]
    if left:
        images = sum(len(shard.images) for shard in shards)
        progress.stage(stage.name + PREPARING, images - sum(len(shard.images) for shard in left), images)
        fed = (stage.feed(shard, evidence).loaded() for shard in left)
        for result in engine(Work(stage, work.context), fed, share_of_work(progress, images)):
            _write(run, stage.name, result, landing)
            progress.advance(len(result.shard.images))
    return sum((read_cost(run.gathered_part(stage.name, shard.name)) for shard in shards), Cost())


def _write(run: Run, stage: str, result: Result, landing: Landing) -> None:
    """What was gathered of a shard, and then what it took, with the checksum of the former."""
    path, part = run.needed_file(stage, result.shard.name), run.gathered_part(stage, result.shard.name)
    write_arrays(path, result.part.arrays, landing)
    known = {path.relative_to(run.path).as_posix(): checksum(path)}
    write_frame(part, result.part.rows, result.part.timed(result.seconds), known, landing)
    landing.land(EVERY)


def _is_whole(run: Run, stage: str, shard: str) -> bool:
    """Whether a shard was gathered, and nothing of it was damaged since."""
    path, part = run.needed_file(stage, shard), run.gathered_part(stage, shard)
    try:
        known = read_beside(part) if part.is_file() else None
    except UserError:
        return False
    return known is not None and path.is_file() and checksum(path) in known.values()
