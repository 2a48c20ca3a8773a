"""An attack on a plain network and plain tensors, judged by the judge."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from robusteval.attacks.judge import judge
from robusteval.attacks.result import AttackCost, AttackResult
from robusteval.core.errors import UserError
from robusteval.core.methods import number
from robusteval.core.norms import Norm
from robusteval.core.streams import Streams
from robusteval.models.classifier import Classifier
from robusteval.models.plain import as_classifier, as_images, clean_predictions

if TYPE_CHECKING:
    from robusteval.attacks.base import Attack

Budget = float | str | Tensor | None
"""A radius for all images, a number or a fraction such as "8/255"; one an image, (N,); or none."""


def attack_tensors(
    attack: Attack,
    network: nn.Module | Classifier,
    pixels: Tensor,
    labels: Tensor,
    budget: Budget,
    source: nn.Module | Classifier | None,
    seed: int,
    batch_size: int,
) -> AttackResult:
    """See Attack.__call__."""
    images = as_images(pixels, labels)
    target = as_classifier(network, images, batch_size)
    if attack.on_sources and source is None:
        raise UserError(f"expected a source model for {attack.name}, got none; give source=")
    attacked = target if source is None else as_classifier(source, images, batch_size)
    if attack.search_dtype is not None:
        attacked = attacked.reduced(getattr(torch, attack.search_dtype))
    radii = radii_of(budget, len(images), images.pixels)
    if radii is None and attack.on_sources:
        raise UserError(f"expected a budget for {attack.name}, got none: only the target could say which suffices")
    streams = Streams.for_images(seed, attack.label, images.ids, images.pixels)
    right = clean_predictions(target, images) == images.labels
    examples, measured = images.pixels.clone(), dict[str, Tensor]()
    for rows in right.nonzero()[:, 0].split(batch_size):
        given = None if radii is None or not attack.fixed_budget else radii[rows]
        found = attack.run(attacked.select(rows), images.select(rows), given, streams.select(rows))
        examples[rows] = found.examples
        for quantity, values in found.measurements.items():
            column = measured.setdefault(quantity, torch.full_like(images.pixels[:, 0, 0, 0], torch.nan))
            column[rows] = values.to(column)
    verdict = judge(target.metered(len(images)), images, examples, attack.norm, None if radii is None else radii)
    own = verdict.success | ~right
    return AttackResult(
        attack=attack.heading(),
        norm=attack.norm,
        examples=torch.where(own[:, None, None, None], examples, images.pixels),
        success=verdict.success,
        predicted=verdict.predicted,
        distances={norm: getattr(verdict, norm.value) for norm in Norm},
        cost=AttackCost(attacked.meter.forwards, attacked.meter.backwards),
        measurements=measured,
    )


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
