"""Gradient masking: models masked on purpose raise their flags, honest ones none of the serious, and each flag has a
case just beyond its threshold and one just below."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn
from torch.nn import functional

from oracles import affine, random_images
from records import attack_record, metric_record, with_stages
from robusteval import Run, open_checkpoint, read_images, run_audit, verify
from robusteval.analysis.masking import Flag, flags
from robusteval.analysis.masking import signs as masking
from robusteval.attacks.search.ball import Ball
from robusteval.core.images import Images
from robusteval.core.methods import EnsembleStage
from robusteval.core.norms import Norm
from robusteval.core.streams import Streams
from robusteval.metrics.base import Measurement
from robusteval.metrics.gradient_masking import GradientMasking, late_progress, probabilities, random_search
from robusteval.models.classifier import Classifier
from robusteval.models.making import make_classifier
from robusteval.results.manifest import AttackRecord, MetricRecord, Stages
from robusteval.results.run import write_frame
from robusteval.results.tables import IMAGES_TABLE, MEASUREMENTS_TABLE, WITNESSES_TABLE
from run_fixture import build_run

DIGITS = 40
LINF = GradientMasking(steps=20, restarts=2, queries=40, samples=10, repeats=3, budget=0.1)
L2 = LINF.model_copy(update={"norm": Norm.L2, "budget": 0.5})
N = 100
IDS = [f"i{k:03d}" for k in range(N)]
SERIOUS = {name for name, sign in masking.SIGNS.items() if sign.severity == "serious"}


# Models, masked on purpose


class Changed(nn.Module):
    """A network between what is done to the image and what is done to the logits."""

    def __init__(self, network: nn.Module, before: Callable[[Tensor], Tensor], after: Callable[[Tensor], Tensor]):
        super().__init__()
        self.network, self.before, self.after = network, before, after

    def forward(self, x: Tensor) -> Tensor:
        return self.after(self.network(self.before(x)))


def same(x: Tensor) -> Tensor:
    return x


class Jitter:
    """Random changes from a generator of its own, as a defence would have."""

    def __init__(self) -> None:
        self.generator = torch.Generator().manual_seed(0)

    def noise(self, x: Tensor) -> Tensor:
        return x + 0.1 * torch.randn(x.shape, generator=self.generator)

    def resize(self, x: Tensor) -> Tensor:
        """Each batch at a side of 7 or 8, padded at random places to 8, as Xie et al. (2018)."""
        size, left, top = torch.randint(2, (3,), generator=self.generator).tolist()
        size, left, top = 8 - size, left * size, top * size
        smaller = functional.interpolate(x, (size, size), mode="bilinear", align_corners=False)
        return functional.pad(smaller, (left, 8 - size - left, top, 8 - size - top))


class Drift:
    """Every evaluation adds a little to the first class, so that outputs depend on the time."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, logits: Tensor) -> Tensor:
        self.calls += 1
        return logits + 1e-3 * self.calls * functional.one_hot(torch.tensor(0), logits.shape[1])


MASKED: dict[str, tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor], set[str]]] = {
    "saturated softmax": (
        same,
        lambda z: (1e4 * z).softmax(1),
        {"unavailable-gradients", "unconstrained-attack-failure", "probability-outputs"},
    ),
    "temperature": (
        same,
        lambda z: 1e4 * z,
        {"vanishing-gradients", "unconstrained-attack-failure", "gradient-free-wins"},
    ),
    "quantised input": (
        lambda x: (8 * x).round() / 8,
        same,
        {"unavailable-gradients", "unconstrained-attack-failure", "gradient-free-wins"},
    ),
    "detached": (lambda x: x.detach(), same, {"unavailable-gradients"}),
    "numpy": (lambda x: torch.from_numpy(x.numpy()), same, {"unavailable-gradients"}),
    "noise": (Jitter().noise, same, {"random-outputs"}),
    "resizing": (Jitter().resize, same, {"random-outputs", "unstable-predictions", "transfer-failure"}),
    "drift": (same, Drift(), {"random-outputs"}),
    "softmax": (same, lambda z: z.softmax(1), {"probability-outputs"}),
    "not a number": (same, lambda z: z + (z.detach() * 0).sqrt() * (z - z.detach()).sqrt(), {"vanishing-gradients"}),
}


@pytest.fixture(scope="module")
def digits() -> Images:
    return read_images("digits", DIGITS)


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


@pytest.mark.parametrize("name", MASKED)
def test_a_masked_model_raises_its_flags(name: str, digits: Images, demo_folder: Path, tmp_path: Path) -> None:
    before, after, expected = MASKED[name]
    model = make_classifier(name, Changed(network(demo_folder, "digits-standard").module, before, after), digits.shape)
    found = raised(LINF, model, digits, tmp_path)
    names = {f.name for f in found}
    assert expected <= names
    if name in ("softmax", "saturated softmax", "temperature", "quantised input", "detached", "numpy"):
        # A model without randomness: nothing but what its mask does.
        assert names <= expected | {"incomplete-optimisation"}
    assert all(f.evidence and f.threshold and f.mitigation for f in found)


@pytest.mark.parametrize("metric", [LINF, L2], ids=["linf", "l2"])
@pytest.mark.parametrize("name", ["digits-standard", "digits-pgd-linf", "digits-pgd-l2"])
def test_an_honest_model_raises_nothing_serious(
    name: str, metric: GradientMasking, digits: Images, demo_folder: Path, tmp_path: Path
) -> None:
    found = raised(metric, network(demo_folder, name), digits, tmp_path)
    assert {f.name for f in found} <= {"incomplete-optimisation"}


def test_more_than_half_of_the_images_may_be_misclassified(demo_folder: Path, digits: Images, tmp_path: Path) -> None:
    labels = (digits.labels + (torch.arange(len(digits)) % 3 > 0).long()) % 10
    images = dataclasses.replace(digits, labels=labels)
    assert {f.name for f in raised(LINF, network(demo_folder, "digits-standard"), images, tmp_path)} <= {
        "incomplete-optimisation"
    }
    none = dataclasses.replace(digits, labels=(digits.labels + 1) % 10)
    found = measure(LINF, network(demo_folder, "digits-standard"), none.select(torch.arange(5)))
    assert not any(m.quantity == "fooled" and m.values.isfinite().any() for m in found)


# The metric


def test_the_batch_changes_nothing() -> None:
    classifier, *_ = affine(3)
    classifier = classifier.to("cpu", torch.float64)
    images = random_images(3, 7, affine(3)[0]).to("cpu", torch.float64)
    images = dataclasses.replace(images, labels=images.labels.clone())
    images.labels[2] = (images.labels[2] + 1) % 5
    metric = LINF.model_copy(update={"steps": 5, "queries": 10, "samples": 3})
    together = measure(metric, classifier, images)
    for i in range(len(images)):
        alone = measure(metric, classifier, images.select(torch.tensor([i])))
        single = {(m.quantity, m.at): m.values[0].double() for m in alone}
        for m in together:
            value = single.get((m.quantity, m.at), torch.tensor(torch.nan).double())
            torch.testing.assert_close(m.values[i].double(), value, rtol=1e-9, atol=1e-9, equal_nan=True)


def test_probabilities_are_told_from_logits() -> None:
    z = torch.randn(50, 10, generator=torch.Generator().manual_seed(0))
    assert probabilities(z.softmax(1)).all()
    assert not probabilities(z).any()
    assert not probabilities(z.sigmoid()).any()
    assert not probabilities(z.log_softmax(1)).any()


def test_late_progress_is_the_share_of_the_rise_in_the_last_ten_values() -> None:
    settled = torch.cat([torch.linspace(0, 1, 11), torch.full((10,), 1.0)])
    steady = torch.linspace(2, 4, 21)
    falling = steady.flip(0)
    overshot = torch.cat([torch.tensor([0.0, 5.0]), torch.full((19,), 1.0)])
    found = late_progress(torch.stack([settled, steady, falling, overshot, torch.zeros(21)]))
    torch.testing.assert_close(found, torch.tensor([0.0, 0.45, 0.0, 0.0, 0.0]))


@pytest.mark.parametrize("norm", [Norm.L2, Norm.LINF])
def test_the_search_without_gradients_stays_in_the_ball_and_finds(norm: Norm) -> None:
    classifier, *_ = affine(1)
    images = random_images(1, 12, classifier)
    radius = {Norm.L2: 2.0, Norm.LINF: 0.25}[norm]
    streams = Streams.for_images(0, "x", images.ids, images.pixels)
    ball = Ball.around(images.pixels, norm, torch.full((12,), radius))
    found = random_search(classifier.metered(12), images.labels, ball, 200, streams)
    assert (norm.size(found.double() - images.pixels.double()) <= radius * (1 + 1e-6)).all()
    assert ((found >= 0) & (found <= 1)).all()
    assert (classifier.predict(found).argmax(1) != images.labels).float().mean() > 0.5


@pytest.mark.parametrize("norm", [Norm.L2, Norm.LINF])
def test_the_path_of_an_affine_model(norm: Norm) -> None:
    """Its gradient is the same everywhere: no step falls, and further means more fooled."""
    classifier, *_ = affine(1, classes=2)
    images = random_images(1, 12, classifier)
    metric = GradientMasking(norm=norm, budget={Norm.L2: 0.3, Norm.LINF: 0.03}[norm], steps=20, samples=5, queries=10)
    found = {(m.quantity, m.at): m.values for m in measure(metric, classifier, images)}
    b = metric.radius
    shares = [found["fooled", at].mean().item() for at in (b / 2, b, 2 * b, np.inf)]
    assert shares == sorted(shares)
    assert 0 < shares[1] < 1
    assert shares[-1] == 1
    for quantity, at in (("falling_steps", 20), ("silent_success", b), ("transfer_failure", b), ("output_spread", 5)):
        assert (found[quantity, at] == 0).all()
    assert (found["fooled_without_gradients", b] <= found["fooled", b]).all()
    assert (found["best_step", 20] <= 20).all()
    torch.testing.assert_close(found["fooled_more_steps", 80], found["fooled", b])


def test_settings_are_checked() -> None:
    assert GradientMasking(budget="8/255").radius == pytest.approx(8 / 255)
    assert GradientMasking(norm="l2").radius == 0.5
    assert GradientMasking(norm="l2").label == "gradient-masking-l2"
    for settings in ({"norm": "l1"}, {"budget": 0}, {"budget": "1/0"}, {"budget": "x"}, {"steps": 0}, {"step": 1}):
        with pytest.raises(ValidationError):
            GradientMasking(**settings)


# Flags at their thresholds, from measurements by hand


def share(count: int) -> np.ndarray:
    """1.0 for the first `count` of the N images."""
    return (np.arange(N) < count).astype(float)


HEALTHY: dict[tuple[str, float], object] = {
    ("probabilities", 0): 0.0,
    ("gradient_size", 0): 1e-3,
    ("gradient_size_margin", 0): 1.0,
    ("zero_gradient_entries", 0): 0.1,
    ("loss_variation", 4 / 255): 0.02,
    ("output_spread", 5): 1e-7,
    ("fooled_without_gradients", 0.1): share(20),
    ("fooled", 0.05): share(15),
    ("fooled", 0.1): share(40),
    ("fooled", 0.2): share(80),
    ("fooled", np.inf): 1.0,
    ("fooled_more_steps", 160): share(41),
    ("fooled_restarts", 3): share(41),
    ("silent_success", 0.1): share(1),
    ("transfer_failure", 0.1): 0.0,
    ("late_progress", 40): 0.01,
    ("best_step", 40): 39.0,
    ("falling_steps", 40): 0.0,
}
Values = dict[tuple[str, float], object]
BOUNDED = [key for key in HEALTHY if key[0].startswith("fooled") and np.isfinite(key[1])]
# With 95 % confidence, 5 of 100 are more than 1 %, and 3 are not; 6 are more than 2 %, and 5 are not.
CASES: dict[str, tuple[str | None, Values]] = {
    "none": (None, {}),
    "differs": ("random-outputs", {("output_spread", 5): 1e-3 * share(5)}),
    "differs, rarely": (None, {("output_spread", 5): 1e-3 * share(3)}),
    "differs by rounding": (None, {("output_spread", 5): 0.9e-4}),
    "outputs not a number": ("random-outputs", {("output_spread", 5): np.nan}),
    "probabilities": ("probability-outputs", {("probabilities", 0): 1.0}),
    "probabilities of some": (None, {("probabilities", 0): share(99)}),
    "unstable": ("unstable-predictions", {("loss_variation", 4 / 255): 0.11}),
    "unstable by half": (None, {("loss_variation", 4 / 255): share(50)}),
    "stable": (None, {("loss_variation", 4 / 255): 0.09}),
    "no gradient": ("unavailable-gradients", {("gradient_size", 0): np.nan, ("gradient_size_margin", 0): np.nan}),
    "zero": (
        "unavailable-gradients",
        {("gradient_size", 0): 1 - share(5), ("gradient_size_margin", 0): 1 - share(5)},
    ),
    "zero, rarely": (None, {("gradient_size", 0): 1 - share(3), ("gradient_size_margin", 0): 1 - share(3)}),
    "zero in one loss": ("vanishing-gradients", {("gradient_size", 0): 1 - share(5)}),
    "vanishing": ("vanishing-gradients", {("gradient_size", 0): 1e-31}),
    "small": (None, {("gradient_size", 0): 1e-29}),
    "infinite": ("vanishing-gradients", {("gradient_size", 0): np.where(share(5), np.inf, 1.0)}),
    "without gradients": ("gradient-free-wins", {("fooled_without_gradients", 0.1): share(49)}),
    "without gradients, by chance": (None, {("fooled_without_gradients", 0.1): share(48)}),
    "falling error": ("error-stalls", {("fooled", 0.05): share(88)}),
    "falling error, by chance": (None, {("fooled", 0.05): share(87)}),
    "stalling error": ("error-stalls", {("fooled", 0.05): share(40), ("fooled", 0.2): share(41)}),
    "growing error": (None, {("fooled", 0.05): share(40), ("fooled", 0.2): share(44)}),
    "nothing falls": (None, dict.fromkeys(BOUNDED, 0.0)),
    "everything falls": (None, {("fooled", b): 1.0 for b in (0.05, 0.1, 0.2)}),
    "more steps": ("more-finds-more", {("fooled_more_steps", 160): share(46)}),
    "more restarts": ("more-finds-more", {("fooled_restarts", 3): share(46)}),
    "a few more": (None, {("fooled_restarts", 3): share(45)}),
    "silent": ("silent-success", {("silent_success", 0.1): share(5)}),
    "silent, rarely": (None, {("silent_success", 0.1): share(3)}),
    "not transferred": ("transfer-failure", {("transfer_failure", 0.1): share(5)}),
    "not transferred, rarely": (None, {("transfer_failure", 0.1): share(3)}),
    "rising": ("incomplete-optimisation", {("late_progress", 40): 0.06}),
    "risen": (None, {("late_progress", 40): 0.04}),
    "rising where it has won": (None, {("late_progress", 40): 0.06 * share(40)}),
    "confined": ("unconstrained-attack-failure", {("fooled", np.inf): share(95)}),
    "confined, rarely": (None, {("fooled", np.inf): share(97)}),
}  # fmt: skip


def measured(changes: Values, metric: GradientMasking) -> pd.DataFrame:
    found = [
        Measurement(quantity, at, torch.tensor(np.broadcast_to(values, N).copy()))  # type: ignore[call-overload]
        for (quantity, at), values in (HEALTHY | changes).items()
    ]
    return table(metric, found, tuple(IDS))


@pytest.mark.parametrize("case", CASES)
def test_a_flag_is_raised_beyond_its_threshold_only(case: str, tmp_path: Path) -> None:
    expected, changes = CASES[case]
    run = a_run(tmp_path, tuple(IDS), True, measured(changes, LINF), [metric_stage(LINF)])
    found = flags(run)
    assert [f.name for f in found] == ([expected] if expected else [])
    if found:
        sign = masking.SIGNS[found[0].name]
        assert (found[0].title, found[0].severity) == (sign.title, sign.severity)
        assert "100 images" in found[0].evidence


def test_every_flag_has_a_case() -> None:
    cases = {expected for expected, _ in [*CASES.values(), *((c[0], c[1:]) for c in FOUGHT.values())] if expected}
    assert cases == set(masking.SIGNS)


def test_serious_flags_come_first_and_misclassified_images_do_not_count(tmp_path: Path) -> None:
    changes = CASES["rising"][1] | CASES["silent"][1] | CASES["confined"][1]
    rows = measured(changes, LINF)
    run = a_run(tmp_path, tuple(IDS), True, rows, [metric_stage(LINF)])
    assert [f.severity for f in flags(run)] == ["serious", "warning", "warning"]
    wrong = np.array([i < 10 or i >= 90 for i in range(N)])
    run = a_run(tmp_path, tuple(IDS), ~wrong, rows, [metric_stage(LINF)])
    assert [f.name for f in flags(run)] == ["incomplete-optimisation"]
    assert "80 images" in flags(run)[0].evidence
    run = a_run(tmp_path, tuple(IDS), False, rows, [metric_stage(LINF)])
    assert flags(run) == []


def test_a_metric_that_did_not_run_raises_nothing(tmp_path: Path) -> None:
    stage = metric_stage(LINF).model_copy(update={"status": "unavailable"})
    assert flags(a_run(tmp_path, tuple(IDS), True, MEASUREMENTS_TABLE.frame(), [stage])) == []


# Flags of the witnesses alone


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


@pytest.mark.parametrize("case", FOUGHT)
def test_flags_that_follow_from_the_witnesses(case: str, tmp_path: Path) -> None:
    expected, attacks = FOUGHT[case]
    entries = [entry for entry, _ in attacks]
    stages = np.where(np.arange(N) < {"square's part": 5, "square's rare part": 3}.get(case, 0), 4.0, 1.0)
    won = {"image_id": IDS, "method": entries[0].name, "quantity": "stage", "at": 0.1, "value": stages}
    run = a_run(tmp_path, tuple(IDS), True, MEASUREMENTS_TABLE.frame(won), entries)
    write_frame(tmp_path / "tables" / "witnesses.parquet", pd.concat([rows for _, rows in attacks]))
    run = run.updated(protocol=run.manifest.protocol.model_copy(update={"budgets": {}}))
    found = flags(run)
    assert [f.name for f in found] == ([expected] if expected else [])
    assert all("100 images" in f.evidence for f in found)


@pytest.mark.parametrize(
    ("follows", "flagged"),
    [
        (("gradients", "outputs"), True),
        (("gradients", "outputs", "outputs"), True),
        (("outputs", "gradients"), False),
        (("gradients", "outputs", "gradients"), False),
        (("outputs", "outputs"), False),
    ],
)
def test_any_ensemble_whose_last_stages_use_no_gradients_is_looked_at(
    follows: tuple[str, ...], flagged: bool, tmp_path: Path
) -> None:
    """Each stage without gradients broke images; it says something only if all stages with them had failed before."""
    stages = tuple(EnsembleStage(value=i + 10, title=f"stage {i}", follows=f) for i, f in enumerate(follows))
    entry, rows = attack("auto", {0.1: 50}, name="mine")
    entry = entry.model_copy(update={"method": "mine", "ensemble": stages})
    blind = [stage.value for stage in stages if stage.follows == "outputs"]
    broken_by = [float(blind[i % len(blind)]) if i < 10 else np.nan for i in range(N)]
    won = {"image_id": IDS, "method": "mine", "quantity": "stage", "at": 0.1, "value": broken_by}
    run = a_run(tmp_path, tuple(IDS), True, MEASUREMENTS_TABLE.frame(won), [entry])
    write_frame(tmp_path / "tables" / "witnesses.parquet", rows)
    assert [f.name for f in flags(run)] == (["square-finds-more"] if flagged else [])


PROTOCOL = """
[budgets]
linf = [0.1, 0.6]
[[attacks]]
method = "pgd"
norm = "linf"
steps = 10
[[metrics]]
method = "gradient-masking"
budget = "26/255"
steps = 10
queries = 20
samples = 5
"""


def test_an_audit_of_a_masked_model(digits: Images, demo_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "small.toml").write_text(PROTOCOL)
    model = network(demo_folder, "digits-standard")
    saturated = make_classifier("saturated", Changed(model.module, same, lambda z: (1e4 * z).softmax(1)), digits.shape)
    honest, masked = (
        run_audit(m, digits, str(tmp_path / "small.toml"), tmp_path / m.name, batch_size=16) for m in (model, saturated)
    )
    assert list(verify(honest)) == []
    assert {f.name for f in flags(honest)} <= {"incomplete-optimisation"}
    found = [f.name for f in flags(masked)]
    assert found.count("unconstrained-attack-failure") == 2, "one of PGD at 0.6, one of the metric"
    assert {"unavailable-gradients", "probability-outputs"} < set(found)


def test_flags_import_no_torch() -> None:
    code = "import sys, robusteval.analysis.masking; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
