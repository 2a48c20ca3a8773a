"""The search on the segment between an image and an adversarial example."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from oracles import affine, random_images
from robusteval.attacks.search.segment import shrink
from robusteval.core.images import Images
from robusteval.core.norms import BALLS, Norm
from robusteval.models.classifier import Classifier


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_shrinking_keeps_witnesses_and_approaches_the_boundary(dtype: torch.dtype) -> None:
    classifier, weight, bias = affine(0)
    images = random_images(0, 40, classifier).to("cpu", dtype)
    classifier = classifier.to("cpu", dtype)
    far = random_images(9, 40, classifier).pixels.to(dtype)
    wrong = classifier.predict(far).argmax(1) != images.labels
    assert 5 < wrong.sum() < 40
    view = classifier.metered(40)
    near = shrink(view, images, far, steps=8)
    assert torch.equal(near[~wrong], far[~wrong])
    assert (classifier.predict(near).argmax(1) != images.labels)[wrong].all()
    for norm in BALLS:
        assert (norm.size(near - images.pixels) <= norm.size(far - images.pixels)).all()
    assert view.meter.forwards[wrong].tolist() == [10.0] * int(wrong.sum())
    assert view.meter.forwards[~wrong].tolist() == [2.0] * int((~wrong).sum())
    # Where the segment crosses into the first other class, from the affine map itself.
    x, v = (p.double().flatten(1).numpy() for p in (images.pixels, far - images.pixels))
    own = images.labels.numpy()
    slope, lead = v @ weight.T, x @ weight.T + bias
    slope, lead = slope - slope[range(40), own][:, None], lead - lead[range(40), own][:, None]
    crossing = np.where(slope > 0, -lead / np.where(slope > 0, slope, 1), np.inf)
    crossing[range(40), own] = np.inf
    reached = (Norm.L2.size(near - images.pixels) / Norm.L2.size(far - images.pixels)).double().numpy()
    first = crossing.min(1)[wrong.numpy()]
    assert (reached[wrong.numpy()] >= first - 1e-6).all()
    # Bisection would leave some 2^-9 of the segment.
    assert np.median(reached[wrong.numpy()] / first) < 1 + 1e-4


def test_shrinking_without_a_slope_still_halves() -> None:
    """A model that shows decisions only: the margin is -1 or 1, and the search is a bisection."""

    class Decides(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            right = (x.flatten(1).mean(1) < 0.3).to(x.dtype)
            return torch.stack([right, 1 - right], dim=1)

    linear, _, _ = affine(0, classes=2)
    classifier = Classifier("decides", Decides(), 2, linear.input_shape, "")
    images = Images(("a",), torch.zeros(1, 1, 8, 8), torch.zeros(1, dtype=torch.int64))
    near = shrink(classifier, images, torch.ones(1, 1, 8, 8), steps=12)
    assert 0.3 <= near.mean() < 0.3 + 1e-3
