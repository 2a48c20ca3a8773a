"""On which images the stages of a run can be looked at, where it does not keep all of them."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from robusteval.auditing.stages.base import Shard, Stage, cut
from robusteval.auditing.verification.again import Recheck
from robusteval.auditing.verification.finding import Finding, unknown
from robusteval.auditing.verification.kept import RunImages
from robusteval.core.images import Images
from robusteval.results.manifest import Manifest

NONE_THERE = "no image of it is kept (--evidence none); --data reads them again"


def shards_there(found: RunImages, images: Images, size: int) -> tuple[Shard, ...]:
    """The shards of the audit, with those of the `images` of a run that are there."""
    if found.whole:
        return cut(images, size)
    there = frozenset(images.ids)
    shard_of = torch.tensor([i // size for i, image_id in enumerate(found.ids) if image_id in there])
    names, counts = torch.unique_consecutive(shard_of, return_counts=True)
    rows = torch.arange(len(images)).split(counts.tolist())
    return tuple(Shard(f"{name:05d}", images.select(own)) for name, own in zip(names.tolist(), rows, strict=True))


def where_needs_are(recheck: Recheck, stage: Stage) -> Recheck:
    """The images on which a stage can be computed again: those that are there, and of a stage that takes the witnesses
    of another those that are kept. None, where a stage of the whole set lacks any."""
    record = stage.record()
    takes = any(record.rests_on(other.name) for other in recheck.run.manifest.stages)
    own = recheck.on(recheck.kept) if takes else recheck
    return own if own.whole or not stage.of_the_set else own.on(frozenset())


def not_looked_at(stage: Stage, own: Recheck, what: str) -> Iterator[Finding]:
    """What is said of the images of which something of a stage is not looked at."""
    manifest = own.run.manifest
    if left := manifest.data.count - len(own.images):
        yield unknown(f"stage {stage.name}, on {left:,} of {manifest.data.count:,} images: {what}; {_why(manifest)}")


def _why(manifest: Manifest) -> str:
    return f"they are not kept (--evidence {manifest.images_kept})"
