"""Records of stages and manifests for runs that tests make of tables alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from robusteval.attacks import ATTACKS
from robusteval.certify import CERTIFICATES
from robusteval.core.methods import Guarantee
from robusteval.core.norms import Norm
from robusteval.core.registry import Origin
from robusteval.metrics import METRICS
from robusteval.results.manifest import Manifest
from robusteval.results.records import AttackRecord, CertificateRecord, MetricRecord, Stages
from robusteval.results.run import Run


def attack_record(name: str, method: str, norm: str, budgets: Sequence[float] = (), **more: Any) -> AttackRecord:
    """A stage of an attack that is done; without budgets it searched the smallest distance. Of a method that is not
    registered, `more` says what it follows."""
    title = f"{ATTACKS[method].title if method in ATTACKS else method}, {Norm(norm).symbol}"
    given: dict[str, Any] = {"title": title, "attack": title, "status": "done", "label": name}
    given |= {"fixed_budget": bool(budgets), "budgets": tuple(budgets), "origin": Origin("tests:Attack", "tests", "0")}
    if method in ATTACKS:
        kind = ATTACKS[method]
        given |= {"follows": kind.follows, "ensemble": kind.ensemble, "quantities": kind.quantities}
        given |= {"origin": ATTACKS.origin(method)}
    return AttackRecord(name=name, method=method, norm=Norm(norm), **(given | more))


def certificate_record(label: str, method: str, norm: str = "l2", **more: Any) -> CertificateRecord:
    """A stage of a certificate that is done."""
    kind = CERTIFICATES[method]
    guarantee = more.get("guarantee", kind.kind)
    given: dict[str, Any] = {"title": f"{kind.title} ({guarantee}), {Norm(norm).symbol}", "status": "done"}
    given |= {"origin": CERTIFICATES.origin(method), "quantities": kind.quantities}
    given |= {"guarantee": Guarantee(guarantee), "subject": "f"}
    return CertificateRecord(name=label, label=label, method=method, norm=Norm(norm), **(given | more))


def metric_record(label: str, method: str, **more: Any) -> MetricRecord:
    """A stage of a metric that is done."""
    kind = METRICS[method]
    given: dict[str, Any] = {"title": kind.title, "origin": METRICS.origin(method), "quantities": kind.quantities}
    return MetricRecord(name=label, label=label, method=method, **(given | {"status": "done"} | more))


def with_stages(run: Run, stages: Sequence[Stages]) -> Run:
    """The run with these stages alone."""
    return run.updated(stages=tuple(stages))


def with_changes(run: Run, stage: str, **changes: object) -> Run:
    """The run with a stage changed."""
    return run.with_stage(run.manifest.stage(stage).model_copy(update=changes))


def with_model(run: Run, **changes: object) -> Run:
    return run.updated(model=run.manifest.model.model_copy(update=changes))


def with_data(run: Run, **changes: object) -> Run:
    return run.updated(data=run.manifest.data.model_copy(update=changes))


def with_protocol(manifest: Manifest, **changes: object) -> Manifest:
    return manifest.model_copy(update={"protocol": manifest.protocol.model_copy(update=changes)})
