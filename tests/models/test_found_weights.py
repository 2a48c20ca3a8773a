"""Weights among what a training saved: by the network's own keys, the wrapper and the prefix named."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from robusteval.core.errors import UserError
from robusteval.models.formats.state import find_weights

PATH = Path("w.pt")
OWN = {"a.weight": torch.zeros(2), "a.bias": torch.zeros(1)}


def test_a_network_whose_own_keys_begin_with_module() -> None:
    own = {f"module.{key}": value for key, value in OWN.items()}
    assert find_weights(PATH, own, own).note == ""
    found = find_weights(PATH, {f"module.{key}": value for key, value in own.items()}, own)
    assert found.weights.keys() == own.keys()
    assert found.prefix == "module."


def test_of_two_that_fit_the_first_of_the_order_is_taken_and_both_are_named() -> None:
    other = {key: value + 1 for key, value in OWN.items()}
    found = find_weights(PATH, {"ema": other, "epoch": 3, "model": OWN}, OWN)
    bias = found.weights["a.bias"]
    assert isinstance(bias, Tensor)
    assert bias.item() == 0
    assert found.note == "from 'model', rather than from 'ema', which fit too"


def test_a_circle_of_wrappers_ends() -> None:
    circle: dict[str, object] = {}
    circle["model"] = circle
    with pytest.raises(UserError, match="expected only tensors"):
        find_weights(PATH, circle, OWN)
