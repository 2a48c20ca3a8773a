"""What a stage makes of one shard: rows for the tables and pictures as evidence. Nothing is written here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from robusteval.attacks.base import Attack
from robusteval.audit.judge import judge
from robusteval.audit.plan import Stage
from robusteval.audit.run import PICTURES, picture_key
from robusteval.certify.base import Certificate, State, Statistic, Step
from robusteval.classifier import Classifier
from robusteval.errors import UserError
from robusteval.images import Images
from robusteval.metrics.base import Metric
from robusteval.streams import Streams
from robusteval.tables import CERTIFICATES, IMAGES, MEASUREMENTS, STATISTICS, WITNESSES


@dataclass(frozen=True)
class Context:
    """What every stage of an audit shares."""

    classifier: Classifier
    sources: Sequence[Classifier]
    seed: int


@dataclass(frozen=True)
class Part:
    """The rows of one shard: its main table, further tables by name, its pictures, and what it cost."""

    rows: pd.DataFrame
    others: Mapping[str, pd.DataFrame] = field(default_factory=dict)
    pictures: PICTURES = field(default_factory=dict)
    forwards: float = 0.0
    backwards: float = 0.0


def clean(context: Context, images: Images) -> Part:
    """Predictions and margins on the images themselves; the images are kept as the evidence of the run."""
    classifier = context.classifier.metered(len(images))
    logits = classifier.predict(images.pixels).double()
    if not logits.isfinite().all():
        bad = images.ids[int((~logits.isfinite().all(1)).nonzero()[0])]
        raise UserError(f"expected finite logits from {classifier.name}, got NaN or infinity on image {bad}")
    predicted = logits.argmax(1)
    rows = IMAGES.frame(
        {
            "image_id": images.ids,
            "label": _array(images.labels),
            "predicted": _array(predicted),
            "correct": _array(predicted == images.labels),
            "logit_margin": _array(_margin(logits, images.labels)),
            "probability_margin": _array(_margin(logits.softmax(1), images.labels)),
        }
    )
    pictures = dict(zip(images.ids, _array(images.pixels), strict=True))
    return Part(rows, {}, pictures, *_cost(classifier))


def attack(context: Context, stage: Stage, images: Images, correct: Tensor) -> Part:
    """Attack the correctly classified images at each budget in turn.

    A witness at one budget serves the larger ones; a misclassified image is its own witness at distance 0.
    """
    method = stage.method
    assert isinstance(method, Attack)
    target = context.classifier.metered(len(images))
    attacked = target if stage.source is None else context.sources[stage.source].metered(len(images))
    frames: list[pd.DataFrame] = []
    pictures: PICTURES = {}
    best = images.pixels.clone()
    open_rows = correct.clone()
    for budget in stage.budgets:
        attacked = attacked.metered(len(images))
        if open_rows.any():
            rows = open_rows.nonzero()[:, 0]
            streams = _streams(context, f"{stage.name}@{budget}", images).select(rows)
            best[rows] = method.run(attacked.select(rows), images.select(rows), budget, streams)
        verdict = judge(target, images, best, method.norm, budget)
        at = np.nan if budget is None else budget
        frames.append(
            WITNESSES.frame(
                {
                    "image_id": images.ids,
                    "method": stage.name,
                    "norm": method.norm.value,
                    "budget": at,
                    **{k: _array(getattr(verdict, k)) for k in ("success", "l0", "l1", "l2", "linf", "predicted")},
                    "forwards": attacked.meter.forwards.numpy(),
                    "backwards": attacked.meter.backwards.numpy(),
                }
            )
        )
        kept = (verdict.success & correct).nonzero()[:, 0].tolist()
        pictures |= {picture_key(images.ids[i], at): _array(best[i]) for i in kept}
        open_rows &= ~verdict.success
    rows_of_all = pd.concat(frames, ignore_index=True)
    return Part(rows_of_all, {}, pictures, rows_of_all["forwards"].sum(), rows_of_all["backwards"].sum())


def prepare(context: Context, stage: Stage, images: Images, step: Step) -> Part:
    """The statistics of the whole set that a certificate needs."""
    method = stage.method
    assert isinstance(method, Certificate)
    classifier = context.classifier.metered(len(images))
    streams = Streams.for_set(context.seed, stage.name, images.pixels)
    state = method.prepare(classifier, images.by_id(), streams, step)
    rows = [{"method": stage.name, "quantity": s.quantity, "at": s.at, "value": s.value} for s in state]
    return Part(STATISTICS.frame(_columns(rows)), {}, {}, *_cost(classifier))


def read_state(statistics: pd.DataFrame) -> State:
    """A certificate's state, out of the rows that `prepare` gave."""
    columns = (statistics[c].tolist() for c in ("quantity", "at", "value"))
    return tuple(Statistic(*row) for row in zip(*columns, strict=True))


def certificate(context: Context, stage: Stage, images: Images, state: State) -> Part:
    method = stage.method
    assert isinstance(method, Certificate)
    classifier = context.classifier.metered(len(images))
    radii = method.radii(classifier, images, state, _streams(context, stage.name, images))
    rows = CERTIFICATES.frame(
        {
            "image_id": images.ids,
            "method": stage.name,
            "subject": method.subject,
            "norm": method.norm.value,
            "kind": method.kind.value,
            "radius": _array(radii.radius.double()),
            "alpha": np.nan if method.error_probability is None else method.error_probability,
            "predicted": _array(radii.predicted),
            "abstained": _array(radii.abstained),
        }
    )
    evidence = _measurements(stage, images, radii.measurements)
    return Part(rows, {"measurements": evidence} if len(evidence) else {}, {}, *_cost(classifier))


def metric(context: Context, stage: Stage, images: Images, witnesses: Tensor | None) -> Part:
    method = stage.method
    assert isinstance(method, Metric)
    classifier = context.classifier.metered(len(images))
    found = method.measure(classifier, images, witnesses, _streams(context, stage.name, images))
    rows = _measurements(stage, images, [(m.quantity, m.at, m.values) for m in found])
    return Part(rows, {}, {}, *_cost(classifier))


def closest_pictures(rows: pd.DataFrame, pictures: PICTURES, images: Images) -> Tensor:
    """For each image the closest witness of one attack, in the attack's own norm; NaN where it found none."""
    result = torch.full_like(images.pixels, torch.nan)
    own = rows[rows["success"]]
    for i, image_id in enumerate(images.ids):
        candidates = own[own["image_id"] == image_id]
        if len(candidates):
            closest = candidates.loc[candidates[candidates["norm"].iloc[0]].idxmin()]
            picture = pictures.get(picture_key(image_id, closest["budget"]))
            if picture is not None:
                result[i] = torch.tensor(picture).to(result)
    return result


def _measurements(stage: Stage, images: Images, found: Sequence[tuple[str, float, Tensor]]) -> pd.DataFrame:
    n = len(images)
    return MEASUREMENTS.frame(
        {
            "image_id": list(images.ids) * len(found),
            "method": stage.name,
            "quantity": np.repeat([quantity for quantity, _, _ in found], n),
            "at": np.repeat([at for _, at, _ in found], n),
            "value": np.concatenate([_array(values.double()) for _, _, values in found] or [np.empty(0)]),
        }
    )


def _streams(context: Context, method: str, images: Images) -> Streams:
    return Streams.for_images(context.seed, method, images.ids, images.pixels)


def _margin(scores: Tensor, labels: Tensor) -> Tensor:
    own = scores.gather(1, labels[:, None])
    others = scores.scatter(1, labels[:, None], -torch.inf).amax(1, keepdim=True)
    return (own - others)[:, 0]


def _array(values: Tensor) -> np.ndarray:
    return values.detach().cpu().numpy()


def _columns(rows: list[dict[str, object]]) -> dict[str, list[object]]:
    return {name: [row[name] for row in rows] for name in STATISTICS.names}


def _cost(classifier: Classifier) -> tuple[float, float]:
    return float(classifier.meter.forwards.sum()), float(classifier.meter.backwards.sum())
