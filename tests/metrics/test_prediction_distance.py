"""Distances to another prediction, against an affine network; labels play no part."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from metric_cases import measure
from oracles import interior
from robusteval.attacks.deepfool import DeepFool
from robusteval.core.images import Images
from robusteval.core.norms import Norm
from robusteval.data import read_images
from robusteval.metrics.base import Measurement
from robusteval.metrics.prediction_distance import PredictionDistance
from robusteval.models.checkpoints import open_checkpoint
from robusteval.models.classifier import Classifier
from robusteval.models.making import make_classifier


def column(found: list[Measurement], quantity: str) -> torch.Tensor:
    (values,) = (m.values for m in found if m.quantity == quantity)
    return values


@pytest.mark.parametrize("norm", PredictionDistance.norms)
def test_of_two_affine_classes_it_is_the_distance_to_the_plane(norm: Norm) -> None:
    classifier, images, exact = interior(norm)
    wrong = replace(images, labels=1 - images.labels)
    for labelled in (images, wrong):
        found = measure(PredictionDistance(norm=norm, overshoot=0.001), classifier, labelled)
        far = column(found, "prediction_distance").numpy()
        assert (far >= exact * (1 - 1e-6)).all()
        np.testing.assert_allclose(far, exact, rtol=0.01)
        sizes = norm.size(images.pixels.double()).numpy()
        np.testing.assert_allclose(column(found, "relative_distance").numpy(), far / sizes)


@pytest.fixture(scope="module")
def digits(demo_folder: Path) -> tuple[Classifier, Images]:
    images = read_images("digits", 40)
    path = f"{demo_folder}/digits-standard.safetensors"
    return open_checkpoint(path, "digits-cnn", input_shape=images.shape), images


@pytest.mark.parametrize("falsified", [0, 8, 20])
def test_false_labels_change_nothing(digits: tuple[Classifier, Images], falsified: int) -> None:
    """Where an attack counts a misclassified image as 0, the mean would fall with their number."""
    classifier, images = digits
    labels = images.labels.clone()
    labels[:falsified] = (labels[:falsified] + 1) % 10
    metric = PredictionDistance(norm=Norm.L2)
    found = metric(classifier, images.pixels, labels).measurements["relative_distance", 0]
    true = metric(classifier, images.pixels, images.labels).measurements["relative_distance", 0]
    assert torch.equal(found, true)
    assert found.isfinite().all()
    attacked = DeepFool(norm=Norm.L2, refine=0)(classifier, images.pixels, labels)
    assert (attacked.distances[Norm.L2][:falsified] == 0).all()


def test_no_other_class_is_no_distance() -> None:
    """A constant model; and one that answers NaN."""
    constant = nn.Linear(4, 2)
    nn.init.zeros_(constant.weight)
    silent = nn.Linear(4, 2)
    nn.init.constant_(silent.bias, torch.nan)
    images = Images(("a", "b"), torch.full((2, 1, 2, 2), 0.5), torch.zeros(2, dtype=torch.int64))
    for layer in (constant, silent):
        classifier = make_classifier("layer", nn.Sequential(nn.Flatten(), layer), (1, 2, 2))
        found = measure(PredictionDistance(norm=Norm.L2), classifier, images)
        assert column(found, "prediction_distance").isnan().all()
        assert column(found, "relative_distance").isnan().all()
