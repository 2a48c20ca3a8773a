"""The manifest of a run: what was asked, with what, and how each stage ended; typed, frozen, with a JSON schema.
Only this file knows how manifest.json is laid out; docs/manifest.schema.json is made of it. Imports no torch.

Longer than 250 lines, since it is the layout of one file."""

from __future__ import annotations

import json
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from robusteval.core.errors import UserError, explain
from robusteval.core.methods import EnsembleStage, Guarantee, Quantity
from robusteval.core.norms import BUDGET_TOLERANCE, Norm
from robusteval.core.registry import Origin
from robusteval.results.calibrate import Calibration

FORMAT = 3
"""Of the manifest: another number wherever what a reader needs of it changes."""
NAME = "manifest.json"
CLEAN = "clean"
"""The stage of the predictions on the images themselves, and the method that an image broken as it is was broken by."""
SANITY = "sanity"
"""The stage that looks at the model and the images before all others."""
REPEAT = "repeat"
"""The stage that looks at them again, after all others."""


class Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Cost(Frozen):
    """What a part or a stage took: wall time, how much of it passes of a model took, the judge's among them, and
    evaluations of images, the judge's not among them."""

    seconds: float = 0.0
    model_seconds: float = 0.0
    forwards: float = 0.0
    backwards: float = 0.0

    def __add__(self, other: Cost) -> Cost:
        return Cost(**{name: getattr(self, name) + getattr(other, name) for name in Cost.model_fields})

    @property
    def outside(self) -> float | None:
        """The share of the time that was not spent inside a model; None where that was not measured."""
        if not self.seconds or not self.model_seconds:
            return None
        return max(0.0, 1.0 - self.model_seconds / self.seconds)


class StageRecord(Frozen):
    """A stage, as every reader of a run sees it: one method over all images."""

    name: str
    """Of its rows in the tables and of its folder: the method's label in the protocol, with its source if any."""
    title: str
    """As a report shows it."""
    status: Literal["pending", "done", "unavailable", "failed"] = "pending"
    reason: str = ""
    """Why it is unavailable, or what stopped it; of what failed, the run keeps the traceback in failures/."""
    cost: Cost = Cost()

    @property
    def done(self) -> bool:
        return self.status == "done"


class CleanRecord(StageRecord):
    """The predictions on the images themselves."""

    kind: Literal["clean"] = "clean"


class SanityRecord(StageRecord):
    """What the model and the images look like before the first method."""

    kind: Literal["sanity"] = "sanity"


class MethodRecord(StageRecord):
    """A stage with a method."""

    method: str
    """The method's name in its registry."""
    origin: Origin
    """Where the method came from."""
    label: str
    """The method's label in the protocol."""
    settings: dict[str, Any] = {}
    batch_independent: bool = True
    norm: Norm | None = None
    quantities: tuple[Quantity, ...] = ()
    """What it may put into the tables of measurements and statistics."""

    def declares(self, name: str) -> bool:
        """Whether the method may put a quantity of that name into these tables."""
        return any(q.covers(name) for q in self.quantities)

    def quantity(self, name: str) -> Quantity:
        """The declaration of a quantity of these tables. Raises KeyError where the method declares none."""
        found = next((q for q in self.quantities if q.covers(name)), None)
        if found is None:
            raise KeyError(f"expected a quantity that {self.method} declares, got '{name}'")
        return found


class AttackRecord(MethodRecord):
    kind: Literal["attack"] = "attack"
    norm: Norm
    attack: str
    """The title of the attack, whatever model it was made on."""
    fixed_budget: bool
    budgets: tuple[float, ...] = ()
    follows: str
    """What shows it the way: gradients, outputs, both, another model."""
    source: str | None = None
    """The name of the model that it was made on, if not on the audited one."""
    ensemble: tuple[EnsembleStage, ...] = ()
    """Of an ensemble, its attacks in their order; its measurement `stage` says which of them broke an image."""
    ranks_on_robustbench: bool = False
    """Whether it is the standard AutoAttack, by which RobustBench ranks."""

    def tried(self, norm: str, limit: float) -> bool:
        """Whether it was tried at budgets up to a limit: without budgets, or with one of this norm as large."""
        if not self.fixed_budget:
            return True
        return self.norm == norm and max(self.budgets) * (1 + BUDGET_TOLERANCE) >= limit


class CertificateRecord(MethodRecord):
    kind: Literal["certificate"] = "certificate"
    norm: Norm
    guarantee: Guarantee
    subject: str
    """The classifier that it speaks of: f, or smooth(f, sigma)."""
    alpha: float | None = None
    limit: float | None = None
    """The radius beyond which it does not look; None for none."""


class MetricRecord(MethodRecord):
    kind: Literal["metric"] = "metric"
    witnesses: str | None = None
    """The stage of the attack whose closest witnesses it measured."""


Stages = Annotated[
    CleanRecord | SanityRecord | AttackRecord | CertificateRecord | MetricRecord, Field(discriminator="kind")
]
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
    fingerprint: str
    class_names: tuple[str, ...] = ()


class ProtocolRecord(Frozen):
    """Everything that decides the numbers, as it could stand in a TOML file."""

    name: str
    description: str = ""
    budgets: dict[Norm, tuple[float, ...]] = {}
    attacks: tuple[dict[str, Any], ...] = ()
    certificates: tuple[dict[str, Any], ...] = ()
    metrics: tuple[dict[str, Any], ...] = ()
    calibration: Calibration | None = None
    top: int = 1


class Manifest(Frozen):
    robusteval: str
    format: Literal[3] = 3
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
    versions: dict[str, str] = {}
    started: str
    finished: str | None = None
    stages: tuple[Stages, ...]
    evidence: dict[str, str] = {}
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
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"expected a run directory with {path.name} in it, got {path.parent}") from None
    except (OSError, ValueError) as error:
        raise UserError(f"expected a readable {path}, got: {error}") from error
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
        raise UserError(f"expected a manifest in {path}, got another: {explain(error)}") from error


if __name__ == "__main__":
    print(json.dumps(Manifest.model_json_schema(mode="serialization"), indent=1))
