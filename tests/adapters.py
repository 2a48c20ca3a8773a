"""What the tests of attacks from other libraries share: cheap settings of each, models on which the libraries
fail, and the libraries' attacks without their adapters."""

from __future__ import annotations

import logging
import random
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from robusteval.attacks.base import Attack
from robusteval.attacks.external.foolbox_attacks import EAD, CarliniWagner, FoolboxDDN, FoolboxDeepFool, FoolboxFMN
from robusteval.attacks.external.foolbox_bridge import FoolboxAttack, library
from robusteval.attacks.external.foolbox_decisions import Boundary, HopSkipJump, SaltAndPepper
from robusteval.attacks.judge import judge
from robusteval.core.images import Images
from robusteval.core.norms import Norm
from robusteval.core.streams import Streams
from robusteval.models.classifier import Classifier
from robusteval.models.making import make_classifier

SMALL: dict[type[FoolboxAttack], dict[str, Any]] = {
    FoolboxDeepFool: {"steps": 20},
    CarliniWagner: {"steps": 60, "binary_search_steps": 5, "step_size": 0.05},
    FoolboxDDN: {"steps": 30},
    FoolboxFMN: {"steps": 30},
    EAD: {"steps": 60, "binary_search_steps": 5, "initial_const": 0.1},
    Boundary: {"steps": 100},
    HopSkipJump: {"steps": 2, "max_queries": 50},
    SaltAndPepper: {"steps": 100},
}


CASES = [(kind, norm) for kind in SMALL for norm in kind.norms]


IDS = [f"{kind.name}-{norm.value}" for kind, norm in CASES]


def run(attack: Attack, model: Classifier, images: Images, budget: Tensor | None = None, seed: int = 0) -> Tensor:
    streams = Streams.for_images(seed, "test", images.ids, images.pixels)
    return attack.run(model.metered(len(images)), images, budget, streams).examples


def seen(model: Classifier, pixels: Tensor) -> Images:
    """Images labelled as the model sees them."""
    return Images(tuple(f"i{k}" for k in range(len(pixels))), pixels, model.predict(pixels).argmax(1))


def wrong(model: Classifier, images: Images, candidates: Tensor) -> list[bool]:
    found: list[bool] = judge(model, images, candidates, Norm.L2, None).success.tolist()
    return found


def raw(name: str, **settings: Any) -> Callable[..., Tensor]:
    """An attack of foolbox as its documentation runs it."""

    def attack(model: Classifier, images: Images, **more: Any) -> Tensor:
        bare = library().PyTorchModel(model.module, bounds=(0, 1))
        found: Tensor = getattr(library().attacks, name)(**settings).run(bare, images.pixels, images.labels, **more)
        return found

    return attack


class Made(nn.Module):
    """A network from a function of the images, (N, C, H, W) -> (N, K)."""

    def __init__(self, logits: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.logits = logits

    def forward(self, pixels: Tensor) -> Tensor:
        return self.logits(pixels)


def made(logits: Callable[[Tensor], Tensor]) -> Classifier:
    return make_classifier("made", Made(logits), (1, 8, 8))


def two(score: Tensor) -> Tensor:
    """Class 1 where the score (N,) is positive."""
    return torch.stack([-score, score], 1)


def plateau() -> tuple[Classifier, Images]:
    """Class 1 where the mean is above a half; no gradient further than 0.1 from there, as at the second image."""
    model = made(lambda x: two((x.flatten(1).mean(1) - 0.5).clamp(-0.1, 0.1)))
    return model, seen(model, torch.tensor([0.45, 0.2, 0.56]).view(3, 1, 1, 1).expand(3, 1, 8, 8).clone())


def bump() -> tuple[Classifier, Images]:
    """Class 1 in a small ball around grey. From there all noise leads out; no black and white image leads in."""
    model = made(lambda x: two(1.0 - (x - 0.5).flatten(1).norm(dim=1)))
    generator = torch.Generator().manual_seed(0)
    grey = 0.5 + 0.05 * torch.randn(2, 1, 8, 8, generator=generator)
    images = seen(model, torch.cat([grey[:1], torch.full((1, 1, 8, 8), 0.9), grey[1:]]))
    assert images.labels.tolist() == [1, 0, 1]
    return model, images


def state() -> list[object]:
    """What libraries change behind one's back."""
    numpy_state: Any = np.random.get_state()
    generators = [torch.random.get_rng_state().tolist(), numpy_state[1].tolist(), numpy_state[2], random.getstate()]
    return [*generators, sys.gettrace(), list(logging.root.handlers), logging.root.manager.disable]


def streams(images: Images) -> Streams:
    return Streams.for_images(0, "test", images.ids, images.pixels)
