"""The traps of foolbox and pyautoattack: each shown in the library where that is cheap, then shut in its adapter."""

from __future__ import annotations

import logging
import random
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from oracles import affine, affine_distances, random_images
from robusteval.attacks.base import Attack
from robusteval.attacks.external.autoattack import AutoAttack
from robusteval.attacks.external.foolbox_attacks import (
    EAD,
    Boundary,
    CarliniWagner,
    FoolboxDDN,
    FoolboxDeepFool,
    FoolboxFMN,
    HopSkipJump,
    SaltAndPepper,
)
from robusteval.attacks.external.foolbox_bridge import FoolboxAttack, StartingAttack, library
from robusteval.attacks.external.libraries import or_itself
from robusteval.attacks.judge import judge
from robusteval.core.errors import UnsupportedError, UserError
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


# What is returned where nothing was found.


@pytest.mark.parametrize(
    ("kind", "name"), [(CarliniWagner, "L2CarliniWagnerAttack"), (EAD, "EADAttack")], ids=["carlini-wagner", "ead"]
)
def test_a_failure_is_the_image_and_not_a_black_image(kind: type[FoolboxAttack], name: str) -> None:
    """On this model black images are misclassified: a failure would have been counted as a success."""
    model, images = plateau()
    model = made(
        lambda x: two(torch.where(x.flatten(1).sum(1) == 0, 1.0, (x.flatten(1).mean(1) - 0.5).clamp(-0.1, 0.1)))
    )
    images = seen(model, images.pixels)
    black = raw(name, steps=50)(model, images)
    assert (black[1] == 0).all()
    assert wrong(model, images, black)[1]
    found = run(kind.model_validate({"norm": kind.norms[0], "steps": 50}), model, images)
    assert torch.equal(found[1], images.pixels[1])
    assert wrong(model, images, found) == [True, False, True]


def test_images_that_are_not_finite_are_not_returned() -> None:
    model = made(lambda x: x.flatten(1).sqrt() @ torch.randn(64, 5, generator=torch.Generator().manual_seed(0)))
    images = random_images(0, 4, model)
    assert raw("L2DeepFoolAttack")(model, images).isnan().any(), "the root has no gradient at black pixels"
    for kind, norm in CASES:
        assert run(kind(norm=norm, **SMALL[kind]), model, images).isfinite().all(), kind.name
    candidates = torch.tensor([0.2, torch.nan, torch.inf, 1.5]).view(4, 1, 1, 1)
    own = torch.full_like(candidates, 0.7)
    assert or_itself(candidates, own).flatten().tolist() == pytest.approx([0.2, 0.7, 0.7, 1.0])


@pytest.mark.parametrize(("kind", "norm"), CASES, ids=IDS)
def test_an_image_that_is_wrong_already_is_returned_after_one_forward(kind: type[FoolboxAttack], norm: Norm) -> None:
    model, _, _ = affine(0)
    images = random_images(0, 3, model)
    labels = images.labels.clone()
    labels[1] = (labels[1] + 1) % 5
    images = Images(images.ids, images.pixels, labels)
    assert torch.equal(run(kind(norm=norm, **SMALL[kind]), model, images)[1], images.pixels[1])
    alone = images.select(torch.tensor([1]))
    view = model.metered(1)
    kind(norm=norm).run(view, alone, None, Streams.for_images(0, "t", alone.ids, alone.pixels))
    assert (view.meter.forwards.item(), view.meter.backwards.item()) == (1, 0)


# What one image does to the others.


@pytest.mark.parametrize(
    ("kind", "norm", "name"),
    [
        (Boundary, Norm.L2, "BoundaryAttack"),
        (HopSkipJump, Norm.L2, "HopSkipJumpAttack"),
        (HopSkipJump, Norm.LINF, "HopSkipJumpAttack"),
    ],
)
def test_an_image_without_a_start_does_not_stop_the_others(kind: type[StartingAttack], norm: Norm, name: str) -> None:
    model, images = bump()
    with pytest.raises(ValueError, match="init_attack failed for 1"):
        raw(name, steps=2)(model, images)
    found = run(kind(norm=norm, **SMALL[kind]), model, images)
    assert wrong(model, images, found) == [True, False, True]
    assert torch.equal(found[1], images.pixels[1])


def test_starts_belong_to_the_image_and_the_seed() -> None:
    model, images = bump()
    together, alone, other = (
        HopSkipJump(norm=Norm.L2).starts(
            model.metered(len(some)), some, Streams.for_images(seed, "t", some.ids, some.pixels)
        )
        for some, seed in [(images, 0), (images.select(torch.tensor([2])), 0), (images, 1)]
    )
    assert together[1].tolist() == [0, 2]
    assert torch.equal(together[0][2], alone[0][0])
    assert not torch.equal(together[0][2], other[0][2])
    assert torch.equal(together[0][1], images.pixels[1])


def test_a_breakdown_of_the_library_costs_only_the_image_that_causes_it() -> None:
    """FMN in L0 counts up to more pixels than there are on an image that it cannot fool."""
    model, images = plateau()
    settings: dict[str, Any] = {"steps": 30, "gamma": 0.5}
    with pytest.raises(IndexError):
        raw("L0FMNAttack", **settings)(model, images)
    attack = FoolboxFMN(norm=Norm.L0, **settings)
    first = attack.found(model.metered(3), images, _streams(images))
    assert wrong(model, images, first) == [True, False, True]
    assert torch.equal(first[1], images.pixels[1])
    assert all(wrong(model, images, run(attack, model, images))), "tried again from a starting point"


@pytest.mark.parametrize("error", [ValueError, IndexError, AssertionError, UserError, UnsupportedError, RuntimeError])
def test_an_error_of_the_model_is_not_taken_for_one_of_the_library(error: type[Exception]) -> None:
    """Else a bug in a network would make it look robust."""
    calls = []

    def logits(x: Tensor) -> Tensor:
        calls.append(len(x))
        if len(calls) > 3:
            raise error("a bug")
        return two(x.flatten(1).mean(1) - 0.5)

    model = made(logits)
    images = seen(model, torch.full((2, 1, 8, 8), 0.4))
    with pytest.raises(error, match="a bug"):
        run(FoolboxDDN(norm=Norm.L2), model, images)


# What the attacks do with the images that they can fool.


@pytest.mark.parametrize("norm", [Norm.L1, Norm.L2])
def test_fmn_crosses_the_boundary_that_it_approaches_and_keeps_to_its_ball(norm: Norm) -> None:
    model, weight, bias = affine(0)
    images = random_images(0, 16, model)
    exact = affine_distances(weight, bias, images, norm)
    distances = [
        getattr(judge(model, images, found, norm, None), norm.value).numpy() / exact
        for found in (raw(f"{norm.symbol}FMNAttack")(model, images), run(FoolboxFMN(norm=norm), model, images))
    ]
    library_alone, ours = distances
    if norm is Norm.L1:
        assert np.isinf(library_alone).any(), "its radii approach the boundary of an affine model from one side"
    else:
        assert np.median(library_alone) > 2, "without its projection it only ever walks away"
    assert np.median(ours) < 1.01
    assert np.isfinite(ours).all()


@pytest.mark.parametrize(("kind", "norm"), CASES, ids=IDS)
def test_no_adapter_takes_a_target(kind: type[FoolboxAttack], norm: Norm) -> None:
    """foolbox's DeepFool accepts targets, and then returns images of whatever class is nearest."""
    with pytest.raises(ValueError, match="target"):
        kind.model_validate({"norm": norm, "target": "random"})


def test_deepfool_of_foolbox_ignores_targets() -> None:
    model, _, _ = affine(0)
    images = random_images(0, 8, model)
    targets = model.predict(images.pixels).argsort(1)[:, 0]
    criterion = library().criteria.TargetedMisclassification(targets)
    bare = library().PyTorchModel(model.module, bounds=(0, 1))
    found = library().attacks.L2DeepFoolAttack(steps=50).run(bare, images.pixels, criterion)
    assert (model.predict(found).argmax(1) != targets).any()


# The state of the process.


def state() -> list[object]:
    """What libraries change behind one's back."""
    numpy_state: Any = np.random.get_state()
    generators = [torch.random.get_rng_state().tolist(), numpy_state[1].tolist(), numpy_state[2], random.getstate()]
    return [*generators, sys.gettrace(), list(logging.root.handlers), logging.root.manager.disable]


def test_the_state_of_the_process_is_as_it_was() -> None:
    model, images = plateau()
    before = state()
    for kind, norm in CASES:
        run(kind(norm=norm, **SMALL[kind]), model, images)
        assert state() == before, kind.name


@pytest.mark.parametrize("calls", [1, 8, 10_000])
def test_autoattack_leaves_the_state_of_the_process_even_when_the_model_fails(calls: int) -> None:
    """pyautoattack takes the trace function from debuggers and from tools that measure coverage."""
    left = [calls]

    def logits(x: Tensor) -> Tensor:
        left[0] -= 1
        if not left[0]:
            raise RuntimeError("a bug")
        return x.flatten(1)[:, :4]

    trace, tracer = sys.gettrace(), sys.gettrace() or (lambda *_: None)
    left[0] += 2
    model = made(logits)
    images = seen(model, torch.rand(2, 1, 8, 8, generator=torch.Generator().manual_seed(0)))
    attack = AutoAttack(norm=Norm.LINF, version="rand", iterations=5)
    sys.settrace(tracer)
    try:
        before = state()
        if calls < 10_000:
            with pytest.raises(RuntimeError, match="a bug"):
                run(attack, model, images, torch.full((2,), 0.01))
        else:
            run(attack, model, images, torch.full((2,), 0.01))
        assert state() == before
    finally:
        sys.settrace(trace)


def test_library_attacks_say_nothing() -> None:
    """In a fresh process where every warning is an error: foolbox's imports, AutoAttack's logger, prints."""
    code = """
import sys; sys.path[:0] = ["tests", "tests/attacks"]
import warnings; warnings.simplefilter("error")
import torch
from test_libraries import AutoAttack, CASES, SMALL, affine, random_images, run
model, _, _ = affine(0); images = random_images(0, 2, model)
for kind, norm in CASES:
    run(kind(norm=norm, **{**SMALL[kind], "steps": 2}), model, images)
for norm, version in zip(AutoAttack.norms, ("standard", "plus", "rand")):
    run(AutoAttack(norm=norm, version=version, iterations=5, queries=5), model, images, torch.full((2,), 0.01))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


# AutoAttack.


@pytest.mark.parametrize("version", ["standard", "plus", "rand"])
@pytest.mark.parametrize("classes", [2, 3])
def test_autoattack_refuses_too_few_classes(version: str, classes: int) -> None:
    from pyautoattack.autoattack import AutoAttack as Raw

    model, _, _ = affine(0, classes=classes)
    images = random_images(0, 3, model)
    attack = AutoAttack.model_validate({"norm": Norm.LINF, "version": version, "iterations": 5, "queries": 5})
    if classes == 3 and version == "rand":
        run(attack, model, images, torch.full((3,), 0.01))
        return
    theirs = Raw(model.module, norm="Linf", eps=0.01, version=version, seed=0)
    theirs.apgd.n_iter = theirs.apgd_targeted.n_iter = theirs.fab.n_iter = theirs.square.n_queries = 3
    with pytest.raises(IndexError):
        theirs.run_standard_evaluation(images.pixels, images.labels, batch_size=3)
    with pytest.raises(UnsupportedError, match=f"at least {3 if version == 'rand' else 4} classes .* got {classes}"):
        run(attack, model, images, torch.full((3,), 0.01))


def test_autoattack_refuses_images_smaller_than_its_windows() -> None:
    model, _, _ = affine(0, (1, 4, 4))
    images = random_images(0, 2, model)
    budget = torch.full((2,), 0.01)
    with pytest.raises(UnsupportedError, match=r"at least 5x5 pixels .* got 1x4x4"):
        run(AutoAttack(norm=Norm.L2, iterations=5, queries=5), model, images, budget)
    run(AutoAttack(norm=Norm.LINF, iterations=5, queries=5), model, images, budget)
    run(AutoAttack(norm=Norm.L2, iterations=5, version="rand"), model, images, budget)


@pytest.mark.parametrize("version", ["standard", "plus", "rand"])
@pytest.mark.parametrize("norm", AutoAttack.norms)
def test_autoattack_with_a_budget_for_each_image(norm: Norm, version: str) -> None:
    """Enough above the exact distance, never below it, never outside the ball; images of one budget run together."""
    model, weight, bias = affine(1)
    images = random_images(1, 4, model)
    exact = torch.from_numpy(affine_distances(weight, bias, images, norm))
    factor = torch.tensor([1.35, 0.9, 1.35, 0.9])
    budget = (factor * exact).float()
    budget[2] = budget[0] = budget[[0, 2]].max()
    attack = AutoAttack.model_validate({"norm": norm, "version": version, "iterations": 10, "queries": 20})
    found = run(attack, model, images, budget)
    assert (norm.size(found.double() - images.pixels.double()) <= budget.double() * (1 + 1e-6)).all()
    assert judge(model, images, found, norm, budget).success.tolist() == [True, False, True, False]
    pair = torch.tensor([0, 2])
    assert torch.equal(run(attack, model, images.select(pair), budget[pair]), found[pair])
    assert not AutoAttack.batch_independent


@pytest.mark.parametrize("norm", AutoAttack.norms)
def test_autoattack_takes_as_many_steps_and_queries_as_it_is_told(norm: Norm) -> None:
    """In L1 the library reads the number of steps from a second place."""
    model, _, _ = affine(0)
    images = random_images(0, 2, model)
    costs = []
    for settings in (
        {"iterations": 5, "queries": 5},
        {"iterations": 20, "queries": 5},
        {"iterations": 5, "queries": 50},
    ):
        view = model.metered(2)
        attack = AutoAttack.model_validate({"norm": norm, **settings})
        attack.run(view, images, torch.full((2,), 1e-6), _streams(images))
        costs.append((view.meter.forwards[0].item(), view.meter.backwards[0].item()))
    (forwards, backwards), longer, broader = costs
    restarts = 5 if norm is Norm.L1 else 1
    assert longer[1] - backwards == 15 * (restarts + 4 + 4), "APGD-CE, and APGD-T and FAB-T on four classes"
    assert broader == (forwards + 45, backwards)


def _streams(images: Images) -> Streams:
    return Streams.for_images(0, "test", images.ids, images.pixels)
