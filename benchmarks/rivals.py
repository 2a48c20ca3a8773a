"""Other libraries' attacks for the smallest distance, given so many queries an image: adv-lib, torchattacks, foolbox.

adv-lib and torchattacks are installed beside the benchmark, never into the product:

    pip install --no-deps adv-lib==0.2.8 torchattacks==3.5.1 tqdm

adv-lib imports torchvision (for LPIPS) and visdom (for plots), which none of its attacks here uses: where they are
missing, empty modules stand in for them.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from unittest.mock import MagicMock

import torch
from torch import Tensor, nn

from robusteval.attacks import ATTACKS
from robusteval.core.images import Images
from robusteval.core.norms import Norm
from robusteval.core.streams import Streams
from robusteval.models.classifier import Classifier

for _top, _names in {"torchvision": ("", ".models", ".transforms"), "visdom": ("",)}.items():
    if find_spec(_top) is None:
        sys.modules.update({_top + name: MagicMock() for name in _names})

adv = import_module("adv_lib.attacks")
torchattacks = import_module("torchattacks")

Rival = Callable[[nn.Module, Tensor, Tensor], Tensor]
"""(a network, images, labels) -> images."""
SEARCHES = 10
"""Radii of a bisection around an attack with a budget."""


def rivals(norm: Norm, queries: int) -> dict[str, Rival]:
    """adv-lib's and torchattacks' attacks in a norm by name, with half of the queries forward and half backward."""
    steps = queries // 2
    p = {"norm": norm.p}
    every: dict[str, tuple[tuple[Norm, ...], Rival]] = {
        "sigma-zero": ((Norm.L0,), partial(adv.sigma_zero, num_steps=steps)),
        "pdpgd": (
            tuple(Norm),
            partial(adv.pdpgd, **p, num_steps=steps, proximal_operator=23 if norm is Norm.L0 else None),
        ),
        "pdgd": ((Norm.L2,), partial(adv.pdgd, num_steps=steps)),
        "alma": ((Norm.L1, Norm.L2), partial(adv.alma, distance=norm.value, num_steps=steps)),
        "ddn": ((Norm.L2,), partial(adv.ddn, steps=steps)),
        "fmn": (tuple(Norm), partial(adv.fmn, **p, steps=steps)),
        "fab": ((Norm.L1, Norm.L2, Norm.LINF), partial(adv.fab, **p, n_iter=max(1, queries // 12))),
        "apgd": ((Norm.L1, Norm.L2, Norm.LINF), partial(bisected, adv.apgd, norm, steps // SEARCHES)),
        "apgd-t": (
            (Norm.L1, Norm.L2, Norm.LINF),
            partial(bisected, partial(adv.apgd_targeted, num_targets=1), norm, steps // SEARCHES),
        ),
        "tr": ((Norm.L2, Norm.LINF), partial(adv.tr, p=norm.p, iter=queries // 3, adaptive=True)),
        "deepfool": ((Norm.L2, Norm.LINF), partial(adv.df, **p, steps=100)),
        "superdeepfool": ((Norm.L2,), partial(adv.sdf, steps=100)),
        "torchattacks-cw": ((Norm.L2,), lambda net, x, y: torchattacks.CW(net, steps=steps)(x, y)),
    }
    return {name: attack for name, (norms, attack) in every.items() if norm in norms}


def bisected(
    attack: Callable[..., Tensor], norm: Norm, iterations: int, net: nn.Module, x: Tensor, y: Tensor
) -> Tensor:
    """The closest image that an attack with a budget finds when its radius is bisected for each image."""
    high = norm.size(torch.maximum(x, 1 - x))
    low, best, found = torch.zeros_like(high), x.clone(), torch.zeros_like(y, dtype=torch.bool)
    radius = high * {Norm.L1: 0.05, Norm.L2: 0.1, Norm.LINF: 0.2}[norm]
    more = {"use_large_reps": True} if norm is Norm.L1 else {}
    for _ in range(SEARCHES):
        candidates = attack(net, x, y, eps=radius, norm=norm.p, n_iter=max(1, iterations), **more)
        with torch.no_grad():
            wrong = net(candidates).argmax(1) != y
        best[wrong] = candidates[wrong]
        high = torch.where(wrong, norm.size(candidates - x).minimum(high), high)
        low, found = torch.where(wrong, low, radius), found | wrong
        radius = torch.where(found, (low + high) / 2, (2 * radius).minimum(high))
    return best


def foolbox(norm: Norm, queries: int) -> dict[str, Rival]:
    """foolbox's by name, through the product's wrappers."""
    steps = queries // 2
    settings: dict[str, dict[str, object]] = {
        "foolbox-ddn": {"steps": steps},
        "foolbox-fmn": {"steps": steps},
        "carlini-wagner": {"steps": steps // 5, "binary_search_steps": 5},
        "ead": {"steps": steps // 5, "binary_search_steps": 5},
    }
    return {name: partial(_wrapped, name, norm, own) for name, own in settings.items() if norm in ATTACKS[name].norms}


def _wrapped(name: str, norm: Norm, settings: dict[str, object], net: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    images = Images(tuple(map(str, range(len(x)))), x, y)
    classifier = net.classifier
    assert isinstance(classifier, Classifier)
    attack = ATTACKS[name].model_validate({"norm": norm, **settings})
    return attack.run(classifier, images, None, Streams.for_images(0, name, images.ids, x)).examples
