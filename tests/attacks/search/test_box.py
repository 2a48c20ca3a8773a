"""What the box leaves of a gradient."""

from __future__ import annotations

import torch

from robusteval.attacks.search.box import free


def test_only_entries_that_can_follow_their_derivative_keep_it() -> None:
    x = torch.tensor([0.0, 0.0, 1.0, 1.0, 0.5, 0.5, 0.5])
    gradient = torch.tensor([2.0, -2.0, 2.0, -2.0, 3.0, -1e-30, 0.0])
    assert free(gradient, x).tolist() == torch.tensor([2.0, 0.0, 0.0, -2.0, 3.0, -1e-30, 0.0]).tolist()
