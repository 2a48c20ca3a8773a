"""A value without entries has no bounds: it is refused by name, and by every method alike."""

from __future__ import annotations

import pytest
from torch import nn

from propagating import SHAPE, images_for, proven
from robusteval.core.errors import UnsupportedError
from robusteval.core.norms import BALLS, Norm
from robusteval.models.making import make_classifier


@pytest.mark.parametrize("norm", BALLS)
@pytest.mark.parametrize("name", ["ibp", "crown", "lipschitz"])
def test_a_layer_without_outputs_is_refused_by_name(name: str, norm: Norm) -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(128, 0), nn.ReLU(), nn.Linear(0, 3))
    classifier = make_classifier("empty", network, SHAPE)
    with pytest.raises(UnsupportedError, match=r"a value without entries at 'network\.1'"):
        proven(name, norm, classifier, images_for(classifier, 2))
