"""The stages of a run against the model: what each is held against, in the order of the run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from importlib.metadata import version

from robusteval.auditing.hardware import DTYPES
from robusteval.auditing.stages.attack import AttackStage
from robusteval.auditing.stages.base import Context, Stage
from robusteval.auditing.stages.twice import tolerance_of
from robusteval.auditing.verification import claims
from robusteval.auditing.verification.again import Recheck
from robusteval.auditing.verification.attacks import AttacksAgain, drawn
from robusteval.auditing.verification.finding import Finding, contained, unknown
from robusteval.auditing.verification.kept import RunImages
from robusteval.auditing.verification.within import not_looked_at, shards_there, where_needs_are
from robusteval.core.device import choose_device, describe
from robusteval.core.progress import Progress
from robusteval.models.averaged import averaged
from robusteval.models.classifier import Classifier
from robusteval.results.records import SANITY
from robusteval.results.run import Run


def check_stages(
    run: Run,
    stages: Sequence[Stage],
    classifier: Classifier,
    sources: Sequence[Classifier | str],
    found: RunImages,
    progress: Progress,
    *,
    everything: bool,
    attacks: int | None,
    sample: int | None = None,
) -> Iterator[Finding]:
    """`stages` are those of the run's protocol, `found` its images, of which one at least is there; of `everything`,
    false leaves only predictions and witnesses; attacks are run again on so many images (None for all), which needs
    their sources opened; what concerns single images is looked at in the shards of a `sample` of them, where that is
    given."""
    manifest = run.manifest
    on, dtype = choose_device("auto"), DTYPES[manifest.dtype]
    images, size = found.there.to(on, dtype), manifest.shard_size

    def placed(model: Classifier) -> Classifier:
        return replace(averaged(model.to(on, dtype), manifest.averaged), batch_size=manifest.batch_size)

    opened = placed(classifier)
    others = tuple(placed(s) for s in sources if not isinstance(s, str))
    context = Context(opened, others, manifest.seed, opened, manifest.batch_size)
    progress.begins(classifier.name, [stage.name for stage in stages])
    shards, tolerance = shards_there(found, images, size), tolerance_of(dtype)
    recheck = Recheck(run, context, images, shards, tolerance, progress, whole=found.whole, kept=found.kept)
    if sample is not None:
        recheck = recheck.of_shards_with(drawn(images, sample))
        left = len(images) - len(recheck.looked_at)
        yield unknown(
            f"stages, on {left:,} of {len(images):,} images: what the model could compute again, and what it took; "
            "the shards of a sample were looked at (--sample: of more)"
        )
    traits, findings = recheck.traits(next(s for s in stages if s.name == SANITY))
    yield from findings
    if not found.whole:
        yield unknown(f"stage {SANITY}: its numbers, which are of all images, {len(images):,} of which are there")
    yield from claims.check_independence(manifest, stages, traits.lacking)
    if not traits.repeatable:
        yield unknown(
            "stages: predictions, witnesses, certificates and metrics by running the model, whose outputs cannot be "
            "computed again; files, tables and bounds were checked"
        )
        return
    recheck = replace(recheck, context=replace(context, classifier=traits.served(opened)))
    same_place = manifest.versions.get("torch") == version("torch") and describe(on).split()[0] in manifest.device
    again = AttacksAgain(recheck, drawn(recheck.looked_at, attacks), same_place)
    if (left := len(found.ids) - len(again.images)) and any(isinstance(s, AttackStage) for s in stages):
        yield unknown(
            f"stages of attacks, on {left} of {len(found.ids)} images: that they found no closer witness, and what "
            "else they measured; they were run again on the others only (--attacks: on all)"
        )
    for stage, record in zip(stages, manifest.stages, strict=True):
        where, own = f"stage {stage.name}", where_needs_are(recheck, stage)
        if record.status == "unavailable":
            if everything:
                yield from contained(where, own.unavailable(stage, record, traits))
            else:
                yield unknown(f"{where}: why it is unavailable was not looked at again, as was asked")
        if not record.done or stage.name == SANITY:
            continue
        if everything or stage.always_verified:
            yield from _computed_again(stage, own)
        else:
            yield unknown(f"stage {stage.name}: its numbers were not computed again, as was asked")
        if isinstance(stage, AttackStage) and attacks != 0:
            if stage.source is not None and any(isinstance(s, str) for s in sources):
                yield unknown(f"stage {stage.name}: what it found, but for its witnesses: its source was not opened")
            else:
                some = again if own is recheck else replace(again, recheck=own, images=drawn(own.looked_at, attacks))
                yield from contained(where, some.stage(stage))


def _computed_again(stage: Stage, own: Recheck) -> Iterator[Finding]:
    """A stage on the images on which it can be looked at, an attack on those whose witnesses are kept; and on how many
    it was not."""
    attack = isinstance(stage, AttackStage)
    looked_at = own.on(own.kept) if attack else own
    yield from not_looked_at(stage, looked_at, "its witnesses" if attack and own.whole else "what it says of them")
    if len(looked_at.images):
        yield from contained(f"stage {stage.name}", looked_at.stage(stage))
