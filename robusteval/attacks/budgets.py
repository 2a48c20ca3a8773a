"""The budget of an attack as a caller writes it: a radius for all images, or one an image."""

from __future__ import annotations

import torch
from torch import Tensor

from robusteval.core.errors import UserError
from robusteval.core.numbers import number

Budget = float | str | Tensor | None
"""A radius for all images, a number or a fraction such as "8/255"; one an image, (N,); or none."""


def radii_of(budget: Budget, n: int, like: Tensor) -> Tensor | None:
    """One radius an image, (N,). Raises UserError for what is no radius."""
    if budget is None:
        return None
    if isinstance(budget, Tensor):
        radii = budget.detach().to(like.device, like.dtype).reshape(-1)
    else:
        if isinstance(budget, bool):
            raise UserError(f"expected a budget such as 0.03 or '8/255', got {budget}")
        try:
            radii = torch.tensor([float(number(budget))], dtype=torch.float64).to(like)  # type: ignore[arg-type]
        except (TypeError, ValueError):
            raise UserError(f"expected a budget such as 0.03 or '8/255', got {budget!r}") from None
    if len(radii) not in (1, n) or not ((radii > 0) & radii.isfinite()).all():
        raise UserError(f"expected one budget above zero, or one for each of {n} images, got {budget!r}")
    return radii.expand(n).clone()
