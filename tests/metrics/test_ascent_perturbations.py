"""Metrics at the ends of an ascent of their own: all steps, of every image, at one budget."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from metric_cases import F64, curve, images_of, measure, random_pixels, small_net
from robusteval import Run, open_checkpoint, read_images, run_audit, verify
from robusteval.attacks.pgd import PGD
from robusteval.auditing.protocol import parse_protocol
from robusteval.core.images import Images
from robusteval.core.norms import Norm
from robusteval.core.streams import Streams
from robusteval.metrics.activation_patterns import ActivationPatterns
from robusteval.metrics.alignment import Alignment
from robusteval.metrics.base import ImageMetric
from robusteval.metrics.linearity import Linearity
from robusteval.metrics.spectrum import JacobianSpectrum
from robusteval.models.classifier import Classifier
from robusteval.reports import write_report
from spectra import known

LONG = {"norm": "l2", "steps": 60, "step": 1e6, "loss": "logits-l2"}
"""The power method of the logits' Jacobian (OpNorm, theorem 1)."""


def middle(n: int) -> Tensor:
    """Images further from the faces of the box than a ball of 0.1 is wide."""
    return 0.4 + 0.2 * random_pixels(n)


def test_a_long_ascent_of_the_logits_ends_along_the_first_singular_vector() -> None:
    """Exactly, of a linear network; whatever class its images are of."""
    network, _ = known([5.0, 1.0, 0.5])
    classifier = network.metered(12)
    metric = Alignment.model_validate({"of": "logits", "ranks": 2, "twin": False, "ascent": LONG, "budget": 0.1})
    images = images_of(middle(12))
    images = replace(images, labels=(classifier.predict(images.pixels).argmax(1) + torch.arange(12) % 2) % 3)
    found = curve(measure(metric, classifier, images), "alignment")
    assert torch.allclose(found, torch.tensor([[1.0], [0.0]], dtype=F64).expand(2, 12), atol=1e-4)


def test_an_ascent_takes_all_steps_of_all_images() -> None:
    """Its end is that of the steps taken one after another, though the model errs on the way or from the first; an
    attack stops there, and keeps nothing of the image that was wrong."""
    classifier, images = small_net().metered(8), images_of(random_pixels(8))
    attack = PGD(norm=Norm.L2, steps=5)
    budget = torch.full((8,), 2.0, dtype=F64)
    streams = [Streams.for_images(0, "x", images.ids, images.pixels) for _ in range(3)]
    ball, x, goal = attack.begin(classifier, images, budget, streams[0])
    wrong = torch.zeros(8, dtype=torch.bool)
    for _ in range(5):
        wrong |= classifier.predict(x).argmax(1) != images.labels
        x = attack.ascend(ball, x, classifier.gradient(x, goal)[0])
    assert wrong.any()
    assert torch.equal(attack.end(classifier, images, budget, streams[1]), x)
    stopped = attack.within(classifier, images, budget, streams[2]).examples
    assert (stopped != x).flatten(1).any(1)[wrong].all()


CASES: list[tuple[ImageMetric, dict[str, Any], str]] = [
    (JacobianSpectrum(ranks=2), {}, "singular_value_adversarial"),
    (Alignment(ranks=2, witnesses="a"), {"witnesses": None}, "alignment"),
    (Linearity(distances=(0.1,), samples=1), {}, "deviation_adversarial"),
    (ActivationPatterns(magnitudes=(0.1,), samples=1), {}, "unchanged_adversarial"),
]


@pytest.mark.parametrize(("metric", "changes", "quantity"), CASES, ids=lambda case: getattr(case, "name", ""))
def test_every_metric_measures_where_its_ascent_ends(
    metric: ImageMetric, changes: dict[str, Any], quantity: str
) -> None:
    """The same numbers as at the ends, given as witnesses; of misclassified images too."""
    classifier = small_net(metric=metric.name).metered(6)
    images = images_of(random_pixels(6))
    images = replace(images, labels=(classifier.predict(images.pixels).argmax(1) + torch.arange(6) % 2) % 3)
    ascent = PGD(norm=Norm.L2, steps=3, random_start=False)
    ends = ascent.end(classifier, images, torch.full((6,), 0.3, dtype=F64), streams_of(metric, images))
    own = type(metric).model_validate(metric.model_dump() | changes | {"ascent": ascent, "budget": 0.3})
    assert own.witnesses_of is None
    given = type(metric).model_validate(metric.model_dump() | {"witnesses": "a"})
    found = curve(run(own, classifier, images), quantity)
    assert found.isfinite().all()
    assert torch.equal(found, curve(run(given, classifier, images, ends), quantity))


def streams_of(metric: ImageMetric, images: Images) -> Streams:
    return Streams.for_images(0, metric.name, images.ids, images.pixels)


def run(metric: ImageMetric, classifier: Classifier, images: Images, witnesses: Tensor | None = None) -> Any:
    return metric.measure(classifier, images, witnesses, streams_of(metric, images))


def test_settings_that_make_no_sense_are_refused() -> None:
    ascent: dict[str, Any] = {"norm": "l2"}
    for settings, message in (
        ({}, "expected witnesses or ascent for alignment, got neither"),
        ({"witnesses": "a", "ascent": ascent, "budget": 1}, "got both"),
        ({"ascent": ascent}, "expected ascent and budget together"),
        ({"ascent": ascent | {"restarts": 2}, "budget": 1}, "expected one ascent at one budget"),
        ({"ascent": ascent | {"stepps": 2}, "budget": 1}, r"ascent\.stepps"),
        ({"ascent": ascent, "budget": 0}, "greater than 0"),
    ):
        with pytest.raises(ValidationError, match=message):
            Alignment.model_validate(settings)


def test_alignment_on_digits_is_that_of_all_steps_and_all_images(tmp_path: Path, demo_folder: Path) -> None:
    """OpNorm's figure 2 on digits-standard: about 0.42 of the cross-entropy, 0.61 of the logits' distance with long
    steps. The closest witnesses, which stopped early, have less. And the run verifies."""
    images = read_images("digits", 60)
    model = open_checkpoint(str(demo_folder / "digits-standard.safetensors"), "digits-cnn", input_shape=images.shape)
    plain = {"norm": "l2", "steps": 10, "step": 0.2}
    entry = {"method": "alignment", "ranks": 2, "twin": False}
    attack = {"method": "pgd", "name": "pgd", "budgets": [0.1, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 1.5], **plain}
    entries = [
        entry | {"name": "all", "ascent": plain, "budget": 0.5},
        entry | {"name": "logits", "ascent": LONG | {"steps": 10}, "budget": 0.5},
        entry | {"name": "early", "witnesses": "pgd"},
    ]
    protocol = parse_protocol({"attacks": [attack], "metrics": entries}, "test")
    done: Run = run_audit(model, images, protocol, tmp_path / "run")
    rows = done.table("measurements")
    first = rows[(rows["at"] == 1) & (rows["quantity"] == "alignment")].groupby("method")["value"]
    means, counts = first.mean(), first.count()
    assert means["all"] == pytest.approx(0.42, abs=0.03)
    assert means["logits"] == pytest.approx(0.61, abs=0.05)
    assert counts["all"] == counts["logits"] == 60
    assert means["early"] < means["all"] - 0.02
    assert counts["early"] < 60
    assert list(verify(done, model)) == []
    page = write_report(done).read_text()
    assert "Perturbations by 10 steps of ascent of cross-entropy, L2 0.5" in page
    assert "Perturbations by PGD, L2, and the singular vectors" in page
