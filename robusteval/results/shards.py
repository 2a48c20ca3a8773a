"""Which files a run is made of: those of the planned shards of its stages, whatever else lies there. No torch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from robusteval.results.manifest import Manifest
from robusteval.results.records import (
    AttackRecord,
    CertificateRecord,
    CleanRecord,
    MetricRecord,
    SanityRecord,
    StageRecord,
)
from robusteval.results.tables import (
    CERTIFICATES_TABLE,
    IMAGES_TABLE,
    MEASUREMENTS_TABLE,
    STATISTICS_TABLE,
    WITNESSES_TABLE,
    Table,
)

OF_SET = "set"
"""The shard of what a stage learns from the whole set."""
_MAIN: dict[type[StageRecord], Table] = {
    CleanRecord: IMAGES_TABLE,
    SanityRecord: MEASUREMENTS_TABLE,
    AttackRecord: WITNESSES_TABLE,
    CertificateRecord: CERTIFICATES_TABLE,
    MetricRecord: MEASUREMENTS_TABLE,
}


@dataclass(frozen=True)
class PlannedFile:
    """A file that a stage may leave: its path in the run, the table that its rows go into (None for images), its shard,
    and whether a stage that is done has it always."""

    path: str
    shard: str
    table: Table | None
    required: bool


def planned_shards(manifest: Manifest, record: StageRecord) -> tuple[str, ...]:
    """The names of the shards that a stage computes: so many images in each, or one of them all."""
    count = 1 if record.one_shard else -(-manifest.data.count // manifest.shard_size)
    return tuple(f"{i:05d}" for i in range(count))


def planned_files(manifest: Manifest, record: StageRecord, only: str | None = None) -> Iterator[PlannedFile]:
    """What a stage may leave in parts/ and witnesses/, shard by shard; where `only` names one of its shards,
    that of it alone, or its one shard of all images."""
    parts, kind = f"parts/{record.name}", type(record)
    if kind is CertificateRecord and only is None:
        yield PlannedFile(f"{parts}/{OF_SET}.statistics.parquet", OF_SET, STATISTICS_TABLE, True)
    for shard in planned_shards(manifest, record) if only is None or record.one_shard else (only,):
        yield PlannedFile(f"{parts}/{shard}.parquet", shard, _MAIN[kind], True)
        if kind in (AttackRecord, CertificateRecord):
            yield PlannedFile(f"{parts}/{shard}.measurements.parquet", shard, MEASUREMENTS_TABLE, False)
        if kind in (SanityRecord, MetricRecord) and record.one_shard:
            yield PlannedFile(f"{parts}/{shard}.statistics.parquet", shard, STATISTICS_TABLE, kind is MetricRecord)
        if kind is not SanityRecord and manifest.images_kept != "none":
            always = kind in (CleanRecord, AttackRecord) and manifest.images_kept == "all"
            yield PlannedFile(f"witnesses/{record.name}/{shard}.safetensors", shard, None, always)
