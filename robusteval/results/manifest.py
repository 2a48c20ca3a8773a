"""The manifest of a run: what was asked, with what, and how each stage ended; typed, frozen, with a JSON schema.
Only this file and records.py, the stages in it, know how manifest.json is laid out; docs/manifest.schema.json is made
of it. Imports no torch."""

from __future__ import annotations

import json
import os
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal, Self, TypeVar

from pydantic import Field, ValidationError

from robusteval.core.errors import UserError, explain
from robusteval.core.limits import MANIFEST_BYTES, read_limited
from robusteval.core.norms import Norm
from robusteval.core.plain_names import PlainName, PlainPath
from robusteval.core.reading import AS_IT_IS, Reading
from robusteval.results.calibrate import Calibration
from robusteval.results.records import Frozen, StageRecord, Stages

FORMAT = 4
"""Of the manifest: another number wherever what a reader needs of it changes."""
NAME = "manifest.json"
_STEP = "put it back from a copy, or audit into another directory"

R = TypeVar("R", bound=StageRecord)


class ModelRecord(Frozen):
    name: str
    path: str | None = None
    arch: str | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    training: str | None = None
    """How it was trained, as its card says; None without a card."""
    training_seconds: float | None = None
    class_names: tuple[str, ...] = ()
    binary: bool = False
    """Whether its one logit stands for two classes."""
    fingerprint: str
    """Of the weights and of what computes with them: code or graph, configuration, normalisation."""
    weights: str | None = None
    """Of the weights alone; None in runs whose fingerprint was that."""
    feature_layer: str | None = None
    """The layer whose input the features are; None where there is none."""
    num_classes: int
    input_shape: tuple[int, int, int]


class DataRecord(Frozen):
    source: str
    count: int
    limit: int | None = None
    sample: int | None = None
    reading: Reading = AS_IT_IS
    fingerprint: str
    class_names: tuple[str, ...] = ()


class ProtocolRecord(Frozen):
    """Everything that decides the numbers, as it could stand in a TOML file."""

    name: PlainName
    description: str = ""
    budgets: dict[Norm, tuple[float, ...]] = Field(default={})
    attacks: tuple[dict[str, Any], ...] = ()
    certificates: tuple[dict[str, Any], ...] = ()
    metrics: tuple[dict[str, Any], ...] = ()
    calibration: Calibration | None = None
    top: int = 1


class Manifest(Frozen):
    robusteval: str
    format: Literal[4] = 4
    command: tuple[str, ...] = ()
    status: Literal["incomplete", "complete"] = "incomplete"
    seed: int
    dtype: str
    device: str
    batch_size: int
    protocol: ProtocolRecord
    model: ModelRecord
    sources: tuple[ModelRecord, ...] = ()
    averaged: int = 1
    """Evaluations of the network behind each one, where random outputs were averaged (--eot)."""
    data: DataRecord
    versions: dict[str, str] = Field(default={})
    started: str
    finished: str | None = None
    stages: tuple[Stages, ...]
    evidence: dict[PlainPath, str] = Field(default={})
    """The checksum of each file that the tables rest on, by its path in the run."""

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
        found = json.loads(text)
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
        return Manifest.model_validate(found)
    except ValidationError as error:
        raise UserError(f"expected a manifest in {path}, got another: {explain(error)}; {_STEP}") from error


if __name__ == "__main__":
    print(json.dumps(Manifest.model_json_schema(mode="serialization"), indent=1))
