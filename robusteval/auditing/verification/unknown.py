"""What no verification can know of a run without trust in who made it."""

from __future__ import annotations

from collections.abc import Iterator

from robusteval.results.keeping import number_left_out
from robusteval.results.manifest import Manifest
from robusteval.results.records import DIFFERS, REPEAT


def not_knowable(manifest: Manifest, with_data: bool = False) -> Iterator[str]:
    """One line for each kind of claim that nothing in a run can prove, by the keys of the manifest where it has one;
    with_data: whether the run is held against its data set."""
    yield "robusteval, versions, device: with which software on which machine the run was made"
    yield "command, started, finished: how it was called, and when"
    yield "stages.*.cost.seconds, stages.*.cost.model_seconds: how long it took; only that stages are the sums of parts"
    yield (
        "stages.*.cost.forwards, stages.*.cost.backwards of attacks: how many evaluations they took, but for the "
        "images that they are run again on"
    )
    yield (
        "protocol, sources, data.limit, data.sample: what was asked at first, and whether methods, budgets, source "
        "models or images were left out afterwards; the run is checked as what its manifest says"
    )
    yield f"stage {REPEAT}, {DIFFERS}*: which images came out differently when the audit computed two shards twice"
    if not with_data:
        yield (
            "data.source, data.reading, data.class_names, the labels and the pixels: that they are those of the data "
            "set named, read so; --data holds the images against it"
        )
    if left := number_left_out(manifest):
        yield (
            f"witnesses, on {left:,} of {manifest.data.count:,} images: that attacks found them, since they are not "
            f"kept (--evidence {manifest.images_kept}); --data and --attacks run the attacks again"
        )
    yield "model.path, model.name: where the model lay; what it computes is known by its fingerprint"
    for i, record in enumerate(manifest.stages):
        if record.status == "failed":
            yield f"stages.{i} ({record.name}).reason: the error that stopped it; it is not provoked again"
    if manifest.protocol.calibration is not None:
        yield "protocol.calibration: that it was asked before the numbers were known"
    if manifest.sources:
        yield "sources.*.path, sources.*.name: where the source models lay"
