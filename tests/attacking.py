"""What the tests of attacks share: small settings of every registered attack, and one call that runs it."""

from __future__ import annotations

from typing import Any

import torch

from robusteval.attacks import ATTACKS
from robusteval.attacks.base import Attack, FixedBudgetAttack
from robusteval.core.images import Images
from robusteval.core.norms import Norm
from robusteval.core.streams import Streams
from robusteval.models.classifier import Classifier

SMALL: dict[str, dict[str, Any]] = {
    "pgd": {"steps": 40, "step": 0.1, "restarts": 3, "loss": "margin"},
    "apgd": {"iterations": 40, "restarts": 3, "loss": "dlr"},
    "auto": {"iterations": 20, "queries": 100},
    "square": {"queries": 300},
    "logbarrier": {"outer": 12, "steps": 150},
    "carlini-wagner": {"steps": 300, "binary_search_steps": 7, "step_size": 0.03},
    "boundary": {"steps": 1500},
    "hopskipjump": {"steps": 20, "max_queries": 1000},
    "ead": {"steps": 300},
    "autoattack": {"iterations": 20, "queries": 100},
}
FAST: dict[str, dict[str, Any]] = {
    **SMALL,
    "pgd": {"steps": 10},
    "auto": {"iterations": 5, "queries": 20},
    "square": {"queries": 50},
    "logbarrier": {"outer": 3, "steps": 30},
    "carlini-wagner": {"steps": 50, "binary_search_steps": 3, "step_size": 0.03},
    "boundary": {"steps": 100},
    "hopskipjump": {"steps": 3, "max_queries": 300},
    "ead": {"steps": 50, "binary_search_steps": 3},
    "autoattack": {"iterations": 5, "queries": 20},
}
"""Cheaper still, for what does not depend on how far an attack gets."""
BOUNDED = {name for name, attack in ATTACKS.items() if issubclass(attack, FixedBudgetAttack)}
"""The attacks that take a budget."""
COMPILED = {"brendel-bethge": Norm.L2}
"""numba takes half a minute for each norm and dtype of it, in every process: one norm stands for all, in one test."""
CASES = [(name, norm) for name, attack in ATTACKS.items() for norm in attack.norms if name not in COMPILED]
IDS = [f"{name}-{norm.value}" for name, norm in CASES]


def fast(name: str, norm: Norm) -> Attack:
    return make(name, norm, **FAST.get(name, {}))


def make(name: str, norm: Norm, **settings: Any) -> Attack:
    return ATTACKS[name](norm=norm, **{**SMALL.get(name, {}), **settings})


def streams(images: Images, seed: int = 0) -> Streams:
    return Streams.for_images(seed, "test", images.ids, images.pixels)


def run(attack: Attack, classifier: Classifier, images: Images, budget: float | None, seed: int = 0) -> torch.Tensor:
    """The images that an attack returns, all images at one budget."""
    radii = None if budget is None else images.pixels.new_full((len(images),), budget)
    return attack.run(classifier.metered(len(images)), images, radii, streams(images, seed)).examples
