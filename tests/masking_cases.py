"""Cases of the flags of gradient masking: just beyond each threshold and just below, and the audits made of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from records import attack_record, metric_record, with_stages
from robusteval import Run, open_checkpoint
from robusteval.analysis.masking import Flag, flags
from robusteval.core.images import Images
from robusteval.core.streams import Streams
from robusteval.metrics.base import Measurement
from robusteval.metrics.gradient_masking import GradientMasking
from robusteval.models.classifier import Classifier
from robusteval.results.files import write_frame
from robusteval.results.records import AttackRecord, MetricRecord, Stages
from robusteval.results.tables import IMAGES_TABLE, MEASUREMENTS_TABLE, WITNESSES_TABLE
from run_fixture import build_run

LINF = GradientMasking(steps=20, restarts=2, queries=40, samples=10, repeats=3, budget=0.1)


N = 100


IDS = [f"i{k:03d}" for k in range(N)]


def network(demo_folder: Path, name: str) -> Classifier:
    return open_checkpoint(str(demo_folder / f"{name}.safetensors"), "digits-cnn", input_shape=(1, 8, 8))


def measure(metric: GradientMasking, classifier: Classifier, images: Images) -> list[Measurement]:
    streams = Streams.for_images(0, metric.label, images.ids, images.pixels)
    return metric.measure(classifier.metered(len(images)), images, None, streams)


def table(metric: GradientMasking, found: list[Measurement], ids: tuple[str, ...]) -> pd.DataFrame:
    frames = [
        {
            "image_id": ids,
            "method": metric.label,
            "quantity": m.quantity,
            "at": m.at,
            "value": m.values.double().numpy(),
        }
        for m in found
    ]
    return pd.concat([MEASUREMENTS_TABLE.frame(f) for f in frames], ignore_index=True)


def a_run(
    path: Path, ids: tuple[str, ...], correct: object, measurements: pd.DataFrame, stages: Sequence[Stages]
) -> Run:
    """A run of these images whose only stages are `stages`."""
    run = build_run(path, metrics=False, certificates=False)
    margins = {"logit_margin": 1.0, "probability_margin": 0.5}
    images = IMAGES_TABLE.frame({"image_id": ids, "label": 0, "predicted": 0, "correct": correct, **margins})
    write_frame(path / "tables" / "images.parquet", images)
    write_frame(path / "tables" / "measurements.parquet", measurements)
    write_frame(path / "tables" / "witnesses.parquet", WITNESSES_TABLE.frame())
    return with_stages(run, stages)


def metric_stage(metric: GradientMasking) -> MetricRecord:
    return metric_record(metric.label, metric.name, norm=metric.norm, settings=metric.model_dump(mode="json"))


def raised(metric: GradientMasking, classifier: Classifier, images: Images, path: Path) -> list[Flag]:
    """The flags of a run with this metric alone."""
    correct = (classifier.predict(images.pixels).argmax(1) == images.labels).numpy()
    measurements = table(metric, measure(metric, classifier, images), images.ids)
    return flags(a_run(path, images.ids, correct, measurements, [metric_stage(metric)]))


def attack(
    method: str,
    hits: dict[float, int],
    *,
    norm: str = "linf",
    start: int = 0,
    follows: str = "",
    name: str | None = None,
) -> tuple[AttackRecord, pd.DataFrame]:
    """A stage that fools so many images from the `start`-th on at each budget; budget NaN for the smallest distance,
    where it finds them all at 0.09."""
    name = name or f"{method}-{norm}"
    fixed = not any(np.isnan(b) for b in hits)
    more = {"follows": follows} if follows else {}
    entry = attack_record(name, method, norm, [b for b in hits if fixed], **more)
    frames = []
    for budget, count in hits.items():
        found = (np.arange(N) >= start) & (np.arange(N) < start + count)
        size = np.where(found, 0.09 if np.isnan(budget) else budget, np.inf)
        sizes = dict.fromkeys(("l0", "l1", "l2", "linf"), size)
        rows = {"image_id": IDS, "method": name, "norm": norm, "budget": budget, "success": found, **sizes}
        frames.append(WITNESSES_TABLE.frame({**rows, "predicted": 0, "forwards": 1.0, "backwards": 1.0}))
    return entry, pd.concat(frames)


NAN = float("nan")


Attack = tuple[AttackRecord, pd.DataFrame]


FOUGHT: dict[str, tuple[str | None, list[Attack]]] = {
    "white-box wins": (None, [attack("pgd", {0.1: 60}), attack("square", {0.1: 40}), attack("transfer", {0.1: 30})]),
    "a tie": (None, [attack("pgd", {0.1: 50}), attack("square", {0.1: 50}, start=50)]),
    "square wins": ("gradient-free-wins", [attack("pgd", {0.1: 40}), attack("square", {0.1: 48})]),
    "square wins, by chance": (None, [attack("pgd", {0.1: 40}), attack("square", {0.1: 47})]),
    "square wins at one of two budgets": (
        None,
        [attack("pgd", {0.1: 40, 0.11: 60}), attack("square", {0.1: 48, 0.11: 60})],
    ),
    "square against the union": (
        None,
        [attack("pgd", {0.1: 40}), attack("apgd", {0.1: 20}, start=40), attack("square", {0.1: 60})],
    ),
    "boundary wins": ("gradient-free-wins", [attack("fgsm", {0.1: 40}), attack("boundary", {NAN: 60})]),
    "boundary came too late": (None, [attack("fgsm", {0.05: 40}), attack("boundary", {NAN: 60})]),
    "a newcomer without gradients": (
        "gradient-free-wins",
        [attack("pgd", {0.1: 40}), attack("guess", {0.1: 60}, follows="outputs")],
    ),
    "a newcomer with gradients": (None, [attack("pgd", {0.1: 40}), attack("climb", {0.1: 60}, follows="gradients")]),
    "noise in another norm": (None, [attack("pgd", {0.1: 40}), attack("lrc", {0.1: 90}, norm="l2")]),
    "transfer wins": (
        "transfer-wins",
        [attack("pgd", {0.1: 40}), attack("transfer", {0.1: 60}, name="transfer-linf-from-a")],
    ),
    "nothing to compare with": (None, [attack("square", {0.1: 90}), attack("transfer", {0.1: 95})]),
    "an ensemble is neither": (None, [attack("auto", {0.1: 40}), attack("square", {0.1: 60})]),
    "stalls": ("error-stalls", [attack("pgd", {0.1: 40, 0.2: 41})]),
    "grows": (None, [attack("pgd", {0.1: 40, 0.2: 46})]),
    "budgets too close": (None, [attack("pgd", {0.1: 40, 0.15: 41})]),
    "all have fallen": (None, [attack("pgd", {0.1: 100, 0.2: 100})]),
    "unbounded": (None, [attack("deepfool", {NAN: 97})]),
    "unbounded fails": ("unconstrained-attack-failure", [attack("deepfool", {NAN: 95})]),
    "another finds the rest": (None, [attack("deepfool", {NAN: 50}), attack("ddn", {NAN: 50}, start=50, norm="l2")]),
    "grey fails": ("unconstrained-attack-failure", [attack("pgd", {0.2: 50, 0.5: 90})]),
    "not yet grey": (None, [attack("pgd", {0.2: 50, 0.49: 90})]),
    "grey in L2": ("unconstrained-attack-failure", [attack("pgd", {1.0: 50, 2.0: 90}, norm="l2")]),
    "not yet grey in L2": (None, [attack("pgd", {1.0: 50, 1.99: 90}, norm="l2")]),
    "noise need not reach all": (None, [attack("gaussian-noise", {NAN: 50})]),
    "square's part": ("square-finds-more", [attack("auto", {0.1: 50})]),
    "square's rare part": (None, [attack("auto", {0.1: 50}, name="rare")]),
}
