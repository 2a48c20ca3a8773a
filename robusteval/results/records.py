"""The records of the stages of a run, as every reader of its manifest sees them. Imports no torch."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from robusteval.core.methods import EnsembleStage, Guarantee, Quantity
from robusteval.core.norms import BUDGET_TOLERANCE, Norm
from robusteval.core.plain_names import PlainName
from robusteval.core.registry import Origin

CLEAN = "clean"
"""The stage of the predictions on the images themselves, and the method that an image broken as it is was broken by."""
SANITY = "sanity"
"""The stage that looks at the model and the images before all others."""
REPEAT = "repeat"
"""The stage that looks at them again, after all others."""
DIFFERS = "differs:"
"""Before the name of a stage: what the last stage measured of images whose rows of that stage came out differently."""


Amount = Annotated[float, Field(ge=0)]
"""A finite number that is not below zero."""


class Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Cost(Frozen):
    """What a part or a stage took: wall time, how much of it passes of a model took, the judge's among them, and
    evaluations of images, the judge's not among them."""

    seconds: Amount = 0.0
    model_seconds: Amount = 0.0
    forwards: Amount = 0.0
    backwards: Amount = 0.0

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

    name: PlainName
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

    @property
    def one_shard(self) -> bool:
        """Whether all images are one shard; else they are cut into batches."""
        return False

    def rests_on(self, stage: str) -> bool:
        """Whether it takes what another stage found as it lies in the run."""
        return False


class CleanRecord(StageRecord):
    """The predictions on the images themselves."""

    kind: Literal["clean"] = "clean"


class SanityRecord(StageRecord):
    """What the model and the images look like before the first method."""

    kind: Literal["sanity"] = "sanity"

    @property
    def one_shard(self) -> bool:
        return True


class MethodRecord(StageRecord):
    """A stage with a method."""

    method: str
    """The method's name in its registry."""
    origin: Origin
    """Where the method came from."""
    label: PlainName
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
    budgets: tuple[Amount, ...] = ()
    follows: str
    """What shows it the way: gradients, outputs, both, another model, other attacks."""
    source: str | None = None
    """The name of the model that it was made on, if not on the audited one."""
    starts_from: tuple[PlainName, ...] = ()
    """The stages whose witnesses it improves, as far as they ran: of attacks, and of certificates that find any."""
    ensemble: tuple[EnsembleStage, ...] = ()
    """Of an ensemble, its attacks in their order; its measurement `stage` says which of them broke an image."""
    ranks_on_robustbench: bool = False
    """Whether it is the standard AutoAttack, by which RobustBench ranks."""

    def rests_on(self, stage: str) -> bool:
        return stage in self.starts_from

    @property
    def own_budgets(self) -> bool:
        """Whether it was given to each image its own budget."""
        return self.fixed_budget and not self.budgets

    def tried(self, norm: str, limit: float) -> bool:
        """Whether it was tried at budgets up to a limit on every image: without budgets, or with one of this norm as
        large."""
        if not self.fixed_budget:
            return True
        if self.own_budgets:
            return False
        return self.norm == norm and max(self.budgets) * (1 + BUDGET_TOLERANCE) >= limit


class CertificateRecord(MethodRecord):
    kind: Literal["certificate"] = "certificate"
    norm: Norm
    guarantee: Guarantee
    subject: str
    """The classifier that it speaks of: f, or smooth(f, sigma)."""
    alpha: Amount | None = None
    limit: Amount | None = None
    """The radius beyond which it does not look; None for none."""


class MetricRecord(MethodRecord):
    kind: Literal["metric"] = "metric"
    witnesses: PlainName | None = None
    """The stage of the attack whose closest witnesses it measured."""
    of_the_set: bool = False
    """Whether it measures the whole set at once, rather than each image by itself."""

    @property
    def one_shard(self) -> bool:
        return self.of_the_set

    def rests_on(self, stage: str) -> bool:
        return stage == self.witnesses


Stages = Annotated[
    CleanRecord | SanityRecord | AttackRecord | CertificateRecord | MetricRecord, Field(discriminator="kind")
]
