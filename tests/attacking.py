"""What the tests of attacks share: each one with the settings of its case, one call that runs it, and what it misses of
what its case demands."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from attack_cases import Reach, case_of
from oracles import affine, affine_distances, random_images
from robusteval.attacks import ATTACKS
from robusteval.attacks.base import Attack, Candidates, FixedBudgetAttack
from robusteval.attacks.judge import judge
from robusteval.core.images import Images
from robusteval.core.norms import Norm
from robusteval.core.streams import Streams
from robusteval.models.classifier import Classifier

BOUNDED = {name for name, attack in ATTACKS.items() if issubclass(attack, FixedBudgetAttack)}
"""The attacks that take a budget."""
COMPILED = {"brendel-bethge": Norm.L2}
"""numba takes half a minute for each norm and dtype of it, in every process: one norm stands for all, in one test."""
CASES = [(name, norm) for name, attack in ATTACKS.items() for norm in attack.norms if name not in COMPILED]
IDS = [f"{name}-{norm.value}" for name, norm in CASES]


def fast(name: str, norm: Norm) -> Attack:
    case = case_of(name)
    return make(name, norm, **(case.settings if case.fast is None else case.fast))


def make(name: str, norm: Norm, **settings: Any) -> Attack:
    return ATTACKS[name](norm=norm, **{**case_of(name).settings, **settings})


def streams(images: Images, seed: int = 0) -> Streams:
    return Streams.for_images(seed, "test", images.ids, images.pixels)


def find(attack: Attack, classifier: Classifier, images: Images, radii: Tensor | None, own: Streams) -> Candidates:
    """What an attack finds; one that improves what others found is given examples that are far away."""
    if attack.on_witnesses:
        return attack.improve(classifier, images, far_away(classifier, images), own)
    return attack.run(classifier, images, radii, own)


def far_away(classifier: Classifier, images: Images) -> Tensor:
    """For each image corners of the box that the classifier gives other labels, one of each as far as there are some,
    (K - 1, N, C, H, W), and else any."""
    generator = torch.Generator().manual_seed(0)
    corners = (torch.rand(200, *images.shape, generator=generator) > 0.5).to(images.pixels)
    seen = classifier.metered(len(corners)).predict(corners).argmax(1)
    one = [int((seen == k).int().argmax()) for k in range(classifier.num_classes)]
    others = [[k for k in range(classifier.num_classes) if k != label] for label in images.labels.tolist()]
    return torch.stack([corners[[one[k] for k in own]] for own in others], dim=1)


def run(attack: Attack, classifier: Classifier, images: Images, budget: float | None, seed: int = 0) -> Tensor:
    """The images that an attack returns, all images at one budget."""
    radii = None if budget is None else images.pixels.new_full((len(images),), budget)
    return find(attack, classifier.metered(len(images)), images, radii, streams(images, seed)).examples


def misses(attack: Attack, must: tuple[Reach, ...], seed: int) -> list[str]:
    """What an attack does not reach of what it must, on the affine oracle of a seed. Whatever it returns has to be
    valid, and no adversarial example closer than the exact distance."""
    classifier, weight, bias = affine(seed)
    images = random_images(seed, 16, classifier)
    exact = torch.from_numpy(affine_distances(weight, bias, images, attack.norm))
    missed = []
    for reach in must:
        within = reach.times * exact
        radii = (within * (1 - 1e-6)).float() if attack.fixed_budget else None
        candidates = find(attack, classifier.metered(16), images, radii, streams(images)).examples
        check_validity(attack, images, candidates, radii)
        verdict = judge(classifier, images, candidates, attack.norm, radii)
        found = getattr(verdict, attack.norm.value)
        assert (found >= exact * (1 - 1e-5)).all()
        share = (verdict.success & (found <= within)).double().mean().item()
        if share < reach.share:
            missed.append(
                f"expected {attack.label} to break a share of {reach.share} of the images at {reach.times} times the "
                f"exact distance (seed {seed}), got {share:.3f}"
            )
    return missed


def check_validity(attack: Attack, images: Images, candidates: Tensor, radii: Tensor | None) -> None:
    """Candidates are images in the box, as many as were asked for, and keep the budget."""
    assert candidates.shape == images.pixels.shape
    assert candidates.dtype == images.pixels.dtype
    assert candidates.isfinite().all()
    assert ((candidates >= 0) & (candidates <= 1)).all()
    if radii is not None:
        size = attack.norm.size(candidates.double() - images.pixels.double())
        assert (size <= radii * (1 + 1e-6)).all()
