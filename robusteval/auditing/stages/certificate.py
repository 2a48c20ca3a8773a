"""A stage of a certificate: the radius of each image, and the adversarial examples that it met, judged."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from robusteval.attacks.judge import judge
from robusteval.auditing.stages.base import Context, Evidence, Shard, Stage, unheard
from robusteval.auditing.stages.frames import array, cost_of, measurement_rows, statistic_rows
from robusteval.auditing.stages.gather import GatherStage, tensors
from robusteval.auditing.stages.part import Part
from robusteval.auditing.stages.recorded import method_record
from robusteval.certify.base import Certificate, GatheringCertificate
from robusteval.core.images import Images
from robusteval.core.methods import Guarantee, Step
from robusteval.core.passes import Passes
from robusteval.core.registry import Origin
from robusteval.models.classifier import Classifier
from robusteval.results.files import Arrays
from robusteval.results.records import CertificateRecord, Cost
from robusteval.results.run import witness_key
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
    def keeps_arrays(self) -> bool:
        return self.method.finds

    @property
    def may_refute(self) -> bool:
        return self.method.kind is Guarantee.PROOF

    @property
    def gatherer(self) -> GatherStage | None:
        return GatherStage(self.name, self.method) if isinstance(self.method, GatheringCertificate) else None

    def prepare(self, context: Context, images: Images, evidence: Evidence, step: Step) -> Part:
        classifier = context.classifier.metered(len(images))
        streams = context.set_streams(self.name, images)
        if isinstance(self.method, GatheringCertificate) and self.gatherer is not None:
            gathered = tensors(evidence.gathered(self.gatherer), images.device)
            state = self.method.learned(gathered, streams)
        else:
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
        arrays, cost = Arrays(), cost_of(classifier)
        if radii.witnesses is not None:
            own = radii.witnesses.flatten(1).isfinite().all(1) & (radii.predicted == images.labels)
            judging = context.classifier.metered(len(images))
            arrays = self._taken(judging, images, own.nonzero()[:, 0], radii.witnesses)
            # The judge's evaluations are timed, not counted.
            cost += Cost(model_seconds=judging.meter.stopwatch.seconds)
        return Part(rows, {"measurements": evidence} if len(evidence) else {}, arrays, cost)

    def recompute(self, context: Context, shard: Shard, stored: pd.DataFrame, arrays: Arrays) -> Part:
        """Of the stored witnesses those that the judge takes again: another search may meet others."""
        part, images = self.compute(context, shard), shard.images
        rows = [i for i, image_id in enumerate(images.ids) if witness_key(image_id, np.nan) in arrays]
        there = images.pixels.clone()
        for i in rows:
            there[i] = torch.tensor(arrays[witness_key(images.ids[i], np.nan)]).to(there)
        places = torch.tensor(rows, dtype=torch.int64, device=there.device)
        return replace(part, arrays=self._taken(context.classifier.metered(len(images)), images, places, there))

    def _taken(self, classifier: Classifier, images: Images, rows: Tensor, candidates: Tensor) -> Arrays:
        """Of the candidates (N, C, H, W) in these rows those that the judge takes, by the key of a witness."""
        some, tried = images.select(rows), candidates[rows].to(images.pixels)
        success = judge(classifier.select(rows), some, tried, self.method.norm, None).success if len(rows) else rows
        return {witness_key(some.ids[i], np.nan): array(tried[i]) for i in success.nonzero()[:, 0].tolist()}
