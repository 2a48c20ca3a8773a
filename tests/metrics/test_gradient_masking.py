"""What gradient masking is seen by: a search without gradients, the path of an ascent, probabilities, progress."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from masking_cases import LINF, measure, network, raised
from pydantic import ValidationError

from oracles import affine, random_images
from robusteval.attacks.search.ball import Ball
from robusteval.core.images import Images
from robusteval.core.norms import Norm
from robusteval.core.streams import Streams
from robusteval.metrics.gradient_masking import GradientMasking, late_progress, probabilities, random_search


def test_more_than_half_of_the_images_may_be_misclassified(demo_folder: Path, digits: Images, tmp_path: Path) -> None:
    labels = (digits.labels + (torch.arange(len(digits)) % 3 > 0).long()) % 10
    images = dataclasses.replace(digits, labels=labels)
    assert {f.name for f in raised(LINF, network(demo_folder, "digits-standard"), images, tmp_path)} <= {
        "incomplete-optimisation"
    }
    none = dataclasses.replace(digits, labels=(digits.labels + 1) % 10)
    found = measure(LINF, network(demo_folder, "digits-standard"), none.select(torch.arange(5)))
    assert not any(m.quantity == "fooled" and m.values.isfinite().any() for m in found)


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
