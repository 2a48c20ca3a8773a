"""What a meter books to each image."""

from __future__ import annotations

import torch

from oracles import affine, random_images
from robusteval.models.meter import Meter


def test_an_image_that_stands_in_several_rows_is_booked_once_a_row() -> None:
    classifier, _, _ = affine(0)
    images = random_images(0, 3, classifier)
    view, rows = classifier.metered(3), torch.tensor([0, 0, 2, 0])
    view.select(rows).gradient(images.pixels[rows], lambda logits: logits[:, 0])
    assert view.meter.forwards.tolist() == [3, 0, 1]
    assert view.meter.backwards.tolist() == [3, 0, 1]


def test_answers_that_are_not_finite_are_booked_to_each_row_of_an_image() -> None:
    counts = torch.zeros(3, dtype=torch.float64)
    Meter.mark(counts, torch.tensor([1, 1, 2]), torch.tensor([True, True, False]))
    assert counts.tolist() == [0, 2, 0]
