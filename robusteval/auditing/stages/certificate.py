"""A stage of a certificate: the radius of each image."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from robusteval.auditing.stages.base import Context, Evidence, Shard, Stage, method_record, unheard
from robusteval.auditing.stages.frames import array, cost_of, measurement_rows, statistic_rows
from robusteval.auditing.stages.part import Part
from robusteval.certify.base import Certificate
from robusteval.core.images import Images
from robusteval.core.methods import Guarantee, Step
from robusteval.core.passes import Passes
from robusteval.core.registry import Origin
from robusteval.results.records import CertificateRecord
from robusteval.results.tables import CERTIFICATES_TABLE


@dataclass(frozen=True)
class CertificateStage(Stage):
    prepares = True
    of_functions = True

    name: str
    method: Certificate
    origin: Origin
    unavailable: str = ""
    own: Mapping[str, float] | None = None
    """A budget for each image by its id, for methods that are asked at those."""

    def record(self) -> CertificateRecord:
        method = self.method
        return method_record(
            CertificateRecord,
            self.name,
            method,
            self.origin,
            guarantee=method.kind,
            subject=method.subject,
            alpha=method.error_probability,
            limit=method.limit,
        )

    def passes(self, images: int, classes: int) -> Passes | None:
        return self.method.passes(images, classes)

    @property
    def proves(self) -> bool:
        return self.method.kind is Guarantee.PROOF

    def prepare(self, context: Context, images: Images, step: Step) -> Part:
        classifier = context.classifier.metered(len(images))
        streams = context.set_streams(self.name, images)
        state = self.method.prepare(classifier, images.by_id(), streams, step)
        return Part(statistic_rows(self.name, state), cost=cost_of(classifier))

    def feed(self, shard: Shard, evidence: Evidence) -> Shard:
        return replace(shard, state=evidence.state(self.name))

    def compute(self, context: Context, shard: Shard, step: Step = unheard) -> Part:
        images, method = shard.images, self.method
        if self.own is not None:
            method = method.at_budgets({image_id: self.own[image_id] for image_id in images.ids})
        classifier = context.classifier.metered(len(images))
        radii = method.tried(classifier, images, shard.state, context.streams(self.name, images))
        rows = CERTIFICATES_TABLE.frame(
            {
                "image_id": images.ids,
                "method": self.name,
                "subject": method.subject,
                "norm": method.norm.value,
                "kind": method.kind.value,
                "radius": array(radii.radius.double()),
                "alpha": np.nan if method.error_probability is None else method.error_probability,
                "predicted": array(radii.predicted),
                "abstained": array(radii.abstained),
            }
        )
        evidence = measurement_rows(self.name, images, radii.measurements)
        return Part(rows, {"measurements": evidence} if len(evidence) else {}, cost=cost_of(classifier))
