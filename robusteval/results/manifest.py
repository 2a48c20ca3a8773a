"""The manifest of a run: what was asked, with what, and how each stage ended; typed, frozen, with a JSON schema.
Only this file and records.py, the stages in it, know how manifest.json is laid out; docs/manifest.schema.json is made
of it. Imports no torch."""

from __future__ import annotations

import json
import math
import os
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import Field, ValidationError, field_validator, model_validator

from robusteval.core.errors import UserError, explain, first_line
from robusteval.core.limits import ARRAY_NUMBERS, MANIFEST_BYTES, read_limited
from robusteval.core.norms import Norm
from robusteval.core.plain_names import PlainName, PlainPath
from robusteval.core.reading import AS_IT_IS, Reading
from robusteval.results.calibrate import Calibration
from robusteval.results.records import CLEAN, Amount, Frozen, StageRecord, Stages

FORMAT = 4
"""Of the manifest: another number wherever what a reader needs of it changes."""
NAME = "manifest.json"
_STEP = "put it back from a copy, or audit into another directory"

MOST_AVERAGED = 1000
"""Evaluations behind each one, where random outputs are averaged."""
_UNSEALED_SHARDS = 1000

R = TypeVar("R", bound=StageRecord)
Count = Annotated[int, Field(ge=1, le=ARRAY_NUMBERS)]
"""Of what there is at least one, and not more than numbers in an array."""

ImagesKept = Literal["all", "sample", "none"]


class ModelRecord(Frozen):
    name: str
    path: str | None = None
    arch: str | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    training: str | None = None
    """How it was trained, as its card says; None without a card."""
    training_seconds: Amount | None = None
    class_names: tuple[str, ...] = ()
    binary: bool = False
    """Whether its one logit stands for two classes."""
    fingerprint: str
    """Of the weights and of what computes with them: code or graph, configuration, normalisation."""
    weights: str | None = None
    """Of the weights alone; None in runs whose fingerprint was that."""
    feature_layer: str | None = None
    """The layer whose input the features are; None where there is none."""
    num_classes: Count
    input_shape: tuple[Count, Count, Count]

    @field_validator("input_shape")
    @classmethod
    def _not_too_large(cls, shape: tuple[int, int, int]) -> tuple[int, int, int]:
        if math.prod(shape) > ARRAY_NUMBERS:
            raise ValueError(f"expected a shape of at most {ARRAY_NUMBERS:,} numbers")
        return shape


class DataRecord(Frozen):
    source: str
    count: Count
    limit: int | None = None
    sample: int | None = None
    reading: Reading = AS_IT_IS
    fingerprint: str
    class_names: tuple[str, ...] = ()


class ProtocolRecord(Frozen):
    """Everything that decides the numbers, as it could stand in a TOML file."""

    name: PlainName
    description: str = ""
    budgets: dict[Norm, tuple[Amount, ...]] = Field(default={})
    attacks: tuple[dict[str, Any], ...] = ()
    certificates: tuple[dict[str, Any], ...] = ()
    metrics: tuple[dict[str, Any], ...] = ()
    calibration: Calibration | None = None
    top: Count = 1
    target: Annotated[int, Field(ge=0, lt=ARRAY_NUMBERS)] | None = None
    own_budgets: dict[Norm, dict[str, Amount]] = Field(default={})
    """The budget of each image by its id, in norms that have none for all."""


class Manifest(Frozen):
    robusteval: str
    format: Literal[4] = 4
    command: tuple[str, ...] = ()
    status: Literal["incomplete", "complete"] = "incomplete"
    seed: int = Field(ge=0, lt=2**63)
    dtype: str = Field(pattern="^float(32|64)$")
    device: str
    batch_size: int = Field(ge=0, le=ARRAY_NUMBERS)
    """Images that are computed together; 0 before it was chosen."""
    batches: int = Field(default=1, ge=1, le=ARRAY_NUMBERS)
    """In a shard, which is written and resumed as one."""
    protocol: ProtocolRecord
    model: ModelRecord
    sources: tuple[ModelRecord, ...] = ()
    averaged: int = Field(default=1, ge=1, le=MOST_AVERAGED)
    """Evaluations of the network behind each one, where random outputs were averaged (--eot)."""
    data: DataRecord
    versions: dict[str, str] = Field(default={})
    started: str
    finished: str | None = None
    stages: tuple[Stages, ...]
    images_kept: ImagesKept = "all"
    """Whose images and witnesses are kept as evidence (--evidence): results/keeping.py says which."""
    evidence: dict[PlainPath, str] = Field(default={})
    """The checksum of each file that the tables rest on, by its path in the run."""

    @model_validator(mode="after")
    def _can_be_looked_through(self) -> Self:
        """The stages are told apart by their names, the predictions among them, and a manifest of a few lines does not
        speak of millions of files."""
        names = [s.name for s in self.stages]
        if names.count(CLEAN) != 1 or len(set(names)) < len(names):
            raise ValueError(
                f"expected stages of different names, {CLEAN} among them, got {', '.join(names) or 'none'}"
            )
        shards = math.ceil(self.data.count / self.shard_size)
        if self.finished is not None and shards > max(len(self.evidence), _UNSEALED_SHARDS):
            raise ValueError(
                f"expected a data.count of images in at most {len(self.evidence):,} files, the evidence, got "
                f"{self.data.count:,} in shards of {self.shard_size:,}"
            )
        return self

    @property
    def shard_size(self) -> int:
        """Images in a shard."""
        return max(1, self.batch_size) * self.batches

    @property
    def complete(self) -> bool:
        return self.status == "complete"

    @property
    def failed(self) -> tuple[StageRecord, ...]:
        """The stages that an error stopped."""
        return tuple(s for s in self.stages if s.status == "failed")

    def of(self, kind: type[R]) -> tuple[R, ...]:
        """The stages of a kind, in the order in which they ran."""
        return tuple(s for s in self.stages if isinstance(s, kind))

    def ran(self, kind: type[R]) -> tuple[R, ...]:
        """Those of them that are done."""
        return tuple(s for s in self.of(kind) if s.done)

    def stage(self, name: str) -> StageRecord:
        """The stage of that name. Raises KeyError."""
        found: StageRecord | None = next((s for s in self.stages if s.name == name), None)
        if found is None:
            raise KeyError(name)
        return found

    def with_stage(self, record: StageRecord) -> Self:
        """The manifest with another record for the stage of that name."""
        stages = tuple(record if s.name == record.name else s for s in self.stages)
        return self.model_copy(update={"stages": stages})

    def as_text(self) -> str:
        """manifest.json."""
        return json.dumps(self.model_dump(mode="json"), indent=2, allow_nan=False) + "\n"


def read_manifest(path: Path) -> Manifest:
    """A run's manifest.json. Raises UserError in one line: none there, another format, or a field that is wrong."""
    if not os.path.exists(path):
        raise UserError(f"expected a run directory with {path.name} in it, got {path.parent}")
    text = read_limited(path, MANIFEST_BYTES, "a manifest")
    try:
        found = json.loads(text, parse_float=_finite, parse_constant=_finite)
    except (ValueError, RecursionError) as error:
        raise UserError(f"expected a readable {path}, got: {error}; {_STEP}") from error
    written = found if isinstance(found, dict) else {}
    if written.get("format") != FORMAT:
        theirs = f"robusteval {written.get('robusteval', 'unknown')} (format {written.get('format', 'none')})"
        raise UserError(
            f"expected a run of robusteval {version('robusteval')} (manifest format {FORMAT}), got {path.parent} of "
            f"{theirs}; audit the model again"
        )
    try:
        manifest = Manifest.model_validate(found)
        manifest.as_text()  # else it had no digest: lists a thousand deep
    except (ValueError, RecursionError) as error:
        said = explain(error) if isinstance(error, ValidationError) else first_line(error)
        raise UserError(f"expected a manifest in {path}, got another: {said}; {_STEP}") from error
    return manifest


def _finite(text: str) -> float:
    if not math.isfinite(number := float(text)):
        raise ValueError(f"{text[:20]}, which is no finite number")
    return number


if __name__ == "__main__":
    print(json.dumps(Manifest.model_json_schema(mode="serialization"), indent=1))
