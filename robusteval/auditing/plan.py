"""The plan of an audit: stages in order, and the shards of images that each is cut into."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from robusteval.attacks.base import Attack
from robusteval.auditing.protocol import Protocol
from robusteval.certify.base import Certificate
from robusteval.core.images import Images
from robusteval.core.methods import Method
from robusteval.metrics.base import Metric
from robusteval.models.classifier import Classifier
from robusteval.results.run import CLEAN


@dataclass(frozen=True)
class Stage:
    """One method over all images. `source` is the index of the source model of a transfer attack."""

    name: str
    method: Method | None = None
    budgets: tuple[float | None, ...] = ()
    source: int | None = None
    unavailable: str = ""
    """Why it cannot run at all; empty if it can."""

    @property
    def kind(self) -> str:
        kinds = {Attack: "attack", Certificate: "certificate", Metric: "metric"}
        return next((kind for base, kind in kinds.items() if isinstance(self.method, base)), CLEAN)

    def as_json(self) -> dict[str, Any]:
        """What the manifest says of the stage before it ran."""
        entry: dict[str, Any] = {"name": self.name, "kind": self.kind, "status": "pending", "reason": ""}
        if self.method is None:
            return entry
        norm = getattr(self.method, "norm", None)
        entry |= {
            "method": self.method.name,
            "norm": norm.value if norm else None,
            "settings": self.method.model_dump(mode="json"),
            "batch_independent": self.method.batch_independent,
        }
        if isinstance(self.method, Attack):
            entry["fixed_budget"] = self.method.fixed_budget
            entry["budgets"] = [b for b in self.budgets if b is not None]
            entry["source"] = self.source
            entry["follows"] = self.method.follows
        if isinstance(self.method, Certificate):
            entry["guarantee"] = self.method.kind.value
            entry["subject"] = self.method.subject
            entry["alpha"] = self.method.error_probability
        return entry


@dataclass(frozen=True)
class Shard:
    """A block of images that is computed, written and resumed as one: a batch."""

    name: str
    images: Images


def plan(protocol: Protocol, sources: Sequence[Classifier] = ()) -> tuple[Stage, ...]:
    """The clean predictions first, then attacks, certificates and metrics as the protocol lists them."""
    stages = [Stage(CLEAN)]
    for attack in protocol.attacks:
        budgets = attack.budgets or (None,)
        if not attack.method.on_sources:
            stages.append(Stage(attack.label, attack.method, budgets))
        elif not sources:
            reason = "expected at least one --source checkpoint to transfer from, got none"
            stages.append(Stage(attack.label, attack.method, budgets, unavailable=reason))
        for i, source in enumerate(sources if attack.method.on_sources else ()):
            name = f"{attack.label}-from-{re.sub(r'[^A-Za-z0-9._-]', '_', source.name)}"
            taken = {s.name for s in stages}
            stages.append(Stage(f"{name}-{i + 1}" if name in taken else name, attack.method, budgets, i))
    stages += [Stage(certificate.label, certificate.method) for certificate in protocol.certificates]
    stages += [Stage(metric.label, metric.method) for metric in protocol.metrics]
    return tuple(stages)


def shards(images: Images, batch_size: int) -> tuple[Shard, ...]:
    """The images in the order of their ids, cut into batches: the order of the data changes nothing."""
    blocks = torch.arange(len(images)).split(batch_size)
    ordered = images.by_id()
    return tuple(Shard(f"{i:05d}", ordered.select(rows)) for i, rows in enumerate(blocks))
