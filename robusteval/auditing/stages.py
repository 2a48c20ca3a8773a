"""What a stage makes of one shard: rows for the tables and images as evidence. Nothing is written here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from robusteval.attacks.base import Attack
from robusteval.attacks.judge import Verdict, judge
from robusteval.attacks.search.losses import margin
from robusteval.auditing.plan import Stage
from robusteval.certify.base import Certificate, State
from robusteval.core.errors import UserError
from robusteval.core.images import Images
from robusteval.core.methods import Statistic, Step
from robusteval.core.norms import BUDGET_TOLERANCE
from robusteval.core.streams import Streams
from robusteval.metrics.base import ImageMetric, SetMetric
from robusteval.models.classifier import Classifier
from robusteval.results.run import Arrays, stored_witness, witness_key
from robusteval.results.tables import CERTIFICATES, IMAGES, MEASUREMENTS, STATISTICS, WITNESSES


@dataclass(frozen=True)
class Context:
    """What every stage of an audit shares."""

    classifier: Classifier
    sources: Sequence[Classifier]
    seed: int


@dataclass(frozen=True)
class Part:
    """The rows of one shard: its main table, further tables by name, its images, and what it cost."""

    rows: pd.DataFrame
    others: Mapping[str, pd.DataFrame] = field(default_factory=dict)
    arrays: Arrays = field(default_factory=dict)
    forwards: float = 0.0
    backwards: float = 0.0
    model_seconds: float = 0.0

    def note(self, seconds: float) -> dict[str, float]:
        """What is noted of its cost, given the wall time that it took."""
        return {
            "seconds": seconds,
            "model_seconds": self.model_seconds,
            "forwards": self.forwards,
            "backwards": self.backwards,
        }


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
            "logit_margin": _array(-margin(logits, images.labels)),
            "probability_margin": _array(-margin(logits.softmax(1), images.labels)),
        }
    )
    arrays = dict(zip(images.ids, _array(images.pixels), strict=True))
    return Part(rows, {}, arrays, *_cost(classifier))


def attack(context: Context, stage: Stage, images: Images, correct: Tensor) -> Part:
    """Attack the correctly classified images; a misclassified one is its own witness at distance 0.

    A witness at one budget serves the larger ones, and a failure at one stands for the smaller ones, so that the
    budgets of an image are searched by bisection: O(log) attacks instead of one a budget. Its image is kept once,
    under the smallest budget that it serves. The judge's evaluations are timed with the attack's, not counted.
    """
    method = stage.method
    assert isinstance(method, Attack)
    target = context.classifier.metered(len(images))
    source = context.classifier if stage.source is None else context.sources[stage.source]
    if method.search_dtype is not None:
        source = source.reduced(getattr(torch, method.search_dtype))
    streams = _streams(context, stage.name, images)
    grid = np.array([np.nan if b is None else b for b in stage.budgets])
    radii = torch.tensor(grid, device=images.pixels.device)
    costs = torch.zeros(2, len(grid), len(images), dtype=torch.float64)
    searching = 0.0
    measured: list[pd.DataFrame] = []
    best = images.pixels.clone()
    failed = torch.full_like(images.labels, -1)
    served = torch.where(correct, len(grid), 0)
    while len(rows := (served - failed > 1).nonzero()[:, 0]):
        at = (failed[rows] + served[rows]) // 2
        view, chosen = source.metered(len(images)).select(rows), images.select(rows)
        given = radii[at].to(best) if method.fixed_budget else None
        found = method.run(view, chosen, given, streams.select(rows))
        costs[:, at.cpu(), rows.cpu()] += torch.stack([view.meter.forwards, view.meter.backwards])[:, rows.cpu()]
        searching += view.meter.stopwatch.seconds
        measured.append(_measured(stage, chosen, found.measurements, np.nan_to_num(grid[at.cpu()])))
        verdict = judge(target, chosen, found.examples, method.norm, given)
        won = rows[verdict.success]
        best[won] = found.examples[verdict.success]
        failed[rows[~verdict.success]] = at[~verdict.success]
        distance = getattr(verdict, method.norm.value)[verdict.success]
        fits = distance[:, None] <= radii * (1 + BUDGET_TOLERANCE)
        served[won] = at[verdict.success] if given is None else torch.minimum(at[verdict.success], (~fits).sum(1))
    verdict = judge(target, images, best, method.norm, None)
    frames = [_witnesses(stage, images, verdict, b, *costs[:, i]) for i, b in enumerate(stage.budgets)]
    arrays = {
        witness_key(images.ids[i], float(grid[served[i]])): _array(best[i])
        for i in (correct & verdict.success).nonzero()[:, 0].tolist()
    }
    others = pd.concat(measured, ignore_index=True).dropna() if measured else pd.DataFrame()
    cost = (*costs.sum((1, 2)).tolist(), searching + target.meter.stopwatch.seconds)
    return Part(pd.concat(frames, ignore_index=True), {"measurements": others} if len(others) else {}, arrays, *cost)


def _witnesses(
    stage: Stage, images: Images, verdict: Verdict, budget: float | None, forwards: Tensor, backwards: Tensor
) -> pd.DataFrame:
    assert isinstance(stage.method, Attack)
    own = verdict.within(stage.method.norm, budget, images.labels)
    return WITNESSES.frame(
        {
            "image_id": images.ids,
            "method": stage.name,
            "norm": stage.method.norm.value,
            "budget": np.nan if budget is None else budget,
            **{k: _array(getattr(own, k)) for k in ("success", "l0", "l1", "l2", "linf", "predicted")},
            "forwards": forwards.numpy(),
            "backwards": backwards.numpy(),
        }
    )


def _measured(stage: Stage, images: Images, found: Mapping[str, Tensor], at: np.ndarray) -> pd.DataFrame:
    """What an attack measured on the way, each image at the budget that it was given (0 for none)."""
    return _measurements(stage, images, [(quantity, 0.0, values) for quantity, values in found.items()]).assign(
        at=np.tile(at, len(found))
    )


def prepare(context: Context, stage: Stage, images: Images, step: Step) -> Part:
    """The statistics of the whole set that a certificate needs."""
    method = stage.method
    assert isinstance(method, Certificate)
    classifier = context.classifier.metered(len(images))
    streams = Streams.for_set(context.seed, stage.name, images.pixels)
    state = method.prepare(classifier, images.by_id(), streams, step)
    return Part(_statistics(stage, state), {}, {}, *_cost(classifier))


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
    assert isinstance(method, ImageMetric)
    classifier = context.classifier.metered(len(images))
    found = method.measure(classifier, images, witnesses, _streams(context, stage.name, images))
    rows = _measurements(stage, images, [(m.quantity, m.at, m.values) for m in found])
    return Part(rows, {}, {}, *_cost(classifier))


def set_metric(context: Context, stage: Stage, images: Images, witnesses: Tensor | None, step: Step) -> Part:
    """A metric of the whole set, which is one shard."""
    method = stage.method
    assert isinstance(method, SetMetric)
    classifier = context.classifier.metered(len(images))
    streams = Streams.for_set(context.seed, stage.name, images.pixels)
    seen = method.observe(classifier, images, witnesses, streams, step)
    rows = _measurements(stage, images, [(m.quantity, m.at, m.values) for m in seen.measurements], missing=False)
    arrays = {name: _array(array) for name, array in seen.arrays.items()}
    others = {"statistics": _statistics(stage, seen.statistics)}
    return Part(rows, others, arrays, *_cost(classifier))


def closest_witnesses(rows: pd.DataFrame, arrays: Arrays, images: Images) -> Tensor:
    """For each image the closest witness of one attack, in the attack's own norm; NaN where it found none."""
    result = torch.full_like(images.pixels, torch.nan)
    own = rows[rows["success"]]
    for i, image_id in enumerate(images.ids):
        candidates = own[own["image_id"] == image_id]
        if len(candidates):
            closest = candidates.loc[candidates[candidates["norm"].iloc[0]].idxmin()]
            array = stored_witness(arrays, image_id, closest["budget"], own["budget"])
            if array is not None:
                result[i] = torch.tensor(array).to(result)
    return result


def _measurements(
    stage: Stage, images: Images, found: Sequence[tuple[str, float, Tensor]], missing: bool = True
) -> pd.DataFrame:
    """One row for each quantity and image, without those that are NaN unless `missing`."""
    values = np.stack([_array(v.double()) for _, _, v in found]) if found else np.empty((0, len(images)))
    rows, columns = np.nonzero(missing | ~np.isnan(values))
    return MEASUREMENTS.frame(
        {
            "image_id": np.array(images.ids, dtype=object)[columns],
            "method": stage.name,
            "quantity": np.array([quantity for quantity, _, _ in found], dtype=object)[rows],
            "at": np.array([at for _, at, _ in found], dtype=float)[rows],
            "value": values[rows, columns],
        }
    )


def _streams(context: Context, method: str, images: Images) -> Streams:
    return Streams.for_images(context.seed, method, images.ids, images.pixels)


def _array(values: Tensor) -> np.ndarray:
    return values.detach().cpu().numpy()


def _statistics(stage: Stage, found: Sequence[Statistic]) -> pd.DataFrame:
    columns = {name: [getattr(s, name) for s in found] for name in ("quantity", "at", "value")}
    return STATISTICS.frame({"method": stage.name, **columns})


def _cost(classifier: Classifier) -> tuple[float, float, float]:
    meter = classifier.meter
    return float(meter.forwards.sum()), float(meter.backwards.sum()), meter.stopwatch.seconds
