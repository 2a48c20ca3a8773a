"""AutoAttack 'standard' from pyautoattack: APGD-CE, targeted APGD, targeted FAB, Square (Croce & Hein 2020).

A thin adapter. Traps that are closed here: its DLR loss needs four classes (fewer are refused); it draws from torch's
global generator (seeded and restored); its pictures exceed small budgets by float32's rounding, for which the judge
would refuse them (they are brought back into the ball). It reseeds per batch, so its results depend on the batch; the
manifest says so.
"""

from __future__ import annotations

import logging
from typing import Literal

import torch
from pydantic import PositiveInt
from torch import Tensor

from robusteval.attacks.ball import Ball
from robusteval.attacks.base import Attack
from robusteval.attacks.foolbox_attacks import seeded
from robusteval.classifier import Classifier
from robusteval.errors import UnsupportedError
from robusteval.images import Images
from robusteval.norms import Norm
from robusteval.streams import Streams


class AutoAttack(Attack):
    """The published ensemble; `iterations` and `queries` below their defaults make it a weaker one."""

    name = "autoattack"
    summary = "APGD-CE, APGD-T, FAB-T and Square, 'standard' (Croce & Hein 2020; pyautoattack)"
    norms = (Norm.L2, Norm.LINF)
    batch_independent = False

    version: Literal["standard"] = "standard"
    iterations: PositiveInt = 100
    """Steps of APGD and FAB."""
    queries: PositiveInt = 5000
    """Queries of Square."""

    def run(self, classifier: Classifier, images: Images, budget: float | None, streams: Streams) -> Tensor:
        from pyautoattack import autoattack

        assert budget is not None
        if classifier.num_classes < 4:
            raise UnsupportedError(f"expected at least 4 classes for autoattack, got {classifier.num_classes}")
        logger = logging.getLogger("auto-attack")
        level = logger.level
        logger.setLevel(logging.CRITICAL)
        try:
            with seeded(streams.seed, images.pixels):
                attack = autoattack.AutoAttack(
                    classifier.as_module(),
                    norm=self.norm.title,
                    eps=budget,
                    version=self.version,
                    seed=streams.seed,
                    device=str(images.pixels.device),
                )
                targets = min(9, classifier.num_classes - 1)
                attack.apgd_targeted.n_target_classes = attack.fab.n_target_classes = targets
                attack.apgd.n_iter = attack.apgd_targeted.n_iter = attack.fab.n_iter = self.iterations
                attack.square.n_queries = self.queries
                found, _ = attack.run_standard_evaluation(images.pixels.float(), images.labels, batch_size=len(images))
        except ZeroDivisionError as error:
            shape = "x".join(map(str, images.shape))
            raise UnsupportedError(
                f"expected pictures larger than Square's windows for autoattack, got {shape}"
            ) from error
        finally:
            logger.setLevel(level)
        return Ball.around(images.pixels, self.norm, budget).nearest(torch.as_tensor(found).to(images.pixels))
