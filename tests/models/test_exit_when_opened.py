"""A network that ends the program on some images does not end it when it is opened, with an exit code of its own."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from robusteval.core.errors import UserError
from robusteval.models.architectures import build_network
from robusteval.models.making import make_classifier


class _Exiting(nn.Module):
    """On whatever is not grey."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(8, 3))

    def forward(self, x: Tensor) -> Tensor:
        if not (x == x[:, :, :1, :1]).all():
            sys.exit(0)
        logits: Tensor = self.layers(x)
        return logits


def test_it_opens_and_the_image_it_exits_on_is_an_error() -> None:
    model = make_classifier("net", _Exiting(), (1, 4, 4))
    assert model.predict(torch.full((2, 1, 4, 4), 0.5)).shape == (2, 3)
    with pytest.raises(RuntimeError, match="net called sys"):
        model.predict(torch.rand(2, 1, 4, 4))


def test_a_function_that_exits_instead_of_building_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text("import sys\n\n\ndef build():\n    sys.exit(0)\n")
    with pytest.raises(UserError, match="to build a network, got SystemExit: 0"):
        build_network(f"{tmp_path}/script.py:build")
