"""What a budget means to attacks: kept at any size, enough above the exact distance, never enough below it."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from attacking import BOUNDED, CASES, make, run, streams
from oracles import affine, affine_distances, interior, random_images
from robusteval.attacks.base import Attack
from robusteval.attacks.deepfool import DeepFool
from robusteval.attacks.external.autoattack import AutoAttack
from robusteval.attacks.fgsm import FGSM
from robusteval.attacks.judge import judge
from robusteval.attacks.pgd import PGD
from robusteval.attacks.search.losses import Loss
from robusteval.attacks.transfer import Transfer
from robusteval.core.images import Images
from robusteval.core.norms import BALLS, Norm
from robusteval.models.making import make_classifier

FIXED = [(name, norm) for name, norm in CASES if name in BOUNDED]


@pytest.mark.parametrize(("name", "norm"), FIXED)
def test_tiny_budgets_are_kept_by_what_is_found(name: str, norm: Norm) -> None:
    """Near float32's rounding a step of `budget` overshoots it by more than the judge allows. On images so close to
    the boundary that every attack with gradients gets through, none of them may lose its witnesses for that."""
    model, images, _ = interior(norm)
    budget = 1e-3
    w = torch.from_numpy(affine(0, classes=2)[1])
    direction = (w[1] - w[0]).view(1, 8, 8)
    margin = model.predict(images.pixels).diff(dim=1)[:, 0].double()
    # Move each image straight to a third of the budget (L2) from the boundary, on its own side.
    away = (margin - margin.sign() * budget / 3 * direction.norm()) / direction.norm() ** 2
    images = replace(images, content=(images.pixels - away.view(-1, 1, 1, 1) * direction).float())
    model = make_classifier("padded", _Padded(model.module), model.input_shape)
    inside = ((images.pixels >= 0) & (images.pixels <= 1)).flatten(1).all(1)
    images = images.select(inside & (model.predict(images.pixels).argmax(1) == images.labels))
    assert len(images) > 10
    found = run(make(name, norm), model, images, budget)
    assert (norm.size(found.double() - images.pixels.double()) <= budget * (1 + 1e-6)).all()
    assert ((found >= 0) & (found <= 1)).all()
    if norm is not Norm.L1 and name in {"fgsm", "pgd", "transfer", "autoattack"}:
        assert judge(model, images, found, norm, budget).success.all()


@pytest.mark.parametrize("norm", [Norm.L2, Norm.LINF])
@pytest.mark.parametrize("attack", [PGD, AutoAttack])
def test_enough_above_the_exact_distance_and_never_below(attack: type[Attack], norm: Norm) -> None:
    settings = {"iterations": 20, "queries": 50} if attack is AutoAttack else {"loss": "margin", "restarts": 2}
    method = attack.model_validate({"norm": norm, **settings})
    model, weight, bias = affine(4)
    images = random_images(4, 5, model)
    for i, distance in enumerate(affine_distances(weight, bias, images, norm)):
        one = images.select(torch.tensor([i]))
        for factor in (1.3, 0.9):
            budget = float(factor * distance)
            assert judge(model, one, run(method, model, one, budget), norm, budget).success.item() == (factor > 1)


@pytest.mark.parametrize("norm", BALLS)
def test_fgsm_is_exact_on_two_affine_classes(norm: Norm) -> None:
    """Whatever the scale of the logits: a confident network's loss has a gradient far below 1e-19."""
    model, images, exact = interior(norm)
    confident = make_classifier("confident", _Scaled(model.module, 30.0), model.input_shape)
    for network in (model, confident):
        for i, distance in enumerate(exact[:12]):
            one = images.select(torch.tensor([i]))
            for factor in (1.01, 0.99):
                budget = float(factor * distance)
                found = run(FGSM(norm=norm, loss=Loss.MARGIN), network, one, budget)
                assert judge(network, one, found, norm, budget).success.item() == (factor > 1)


def test_cross_entropy_climbs_where_its_gradient_underflows() -> None:
    """Margins of 50: the wrong class has probability 1e-22, squares of the gradient are zero in float32."""
    weight = torch.randn(1, 64, generator=torch.Generator().manual_seed(0))
    linear = torch.nn.Linear(64, 2)
    images = Images(("a",), torch.full((1, 1, 8, 8), 0.5), torch.tensor([0]))
    with torch.no_grad():
        linear.weight.copy_(torch.cat([-weight, weight]))
        linear.bias.copy_(torch.tensor([25.0, -25.0]) - linear.weight.sum(1) / 2)
    model = make_classifier("sure", torch.nn.Sequential(torch.nn.Flatten(), linear), (1, 8, 8))
    exact = 25.0 / float(weight.norm())
    assert exact > 1
    gradient, _, _ = model.gradient(images.pixels, lambda z: torch.nn.functional.cross_entropy(z, images.labels))
    assert 0 < gradient.abs().max() < 1e-19
    moved = run(FGSM(norm=Norm.L2), model, images, 1.0) - images.pixels
    assert torch.nn.functional.cosine_similarity(moved.flatten(1), weight).item() > 1 - 1e-5
    assert math.isclose(float(moved.norm()), 1.0, rel_tol=1e-4)


@pytest.mark.parametrize("norm", [Norm.L2, Norm.LINF])
def test_deepfool_overshoots_two_affine_classes_by_two_percent(norm: Norm) -> None:
    model, images, exact = interior(norm)
    verdict = judge(model, images, run(DeepFool(norm=norm, stride=1, refine=0), model, images, None), norm, None)
    found = getattr(verdict, norm.value).numpy()
    np.testing.assert_allclose(found, 1.02 * exact, rtol=5e-3, atol=2e-4)


@pytest.mark.parametrize(("name", "norm"), [("pgd", n) for n in PGD.norms] + [("lrc", Norm.L2), ("transfer", Norm.L2)])
def test_another_seed_gives_another_image(name: str, norm: Norm) -> None:
    model, _, _ = affine(0)
    images = random_images(0, 4, model)
    # Many steps of Linf end in the same corner of the ball whatever the start.
    attack = PGD(norm=norm, steps=1) if name == "pgd" else make(name, norm)
    first, second = (run(attack, model, images, 1e-3, seed) for seed in (0, 1))
    assert (first != second).flatten(1).any(1).all()
    assert (first != images.pixels).flatten(1).any(1).all(), "a failed attack still shows what it tried"


def test_without_a_random_start_the_seed_does_not_matter() -> None:
    model, _, _ = affine(0)
    images = random_images(0, 4, model)
    attack = PGD(norm=Norm.LINF, random_start=False, steps=5)
    assert torch.equal(run(attack, model, images, 0.01, 0), run(attack, model, images, 0.01, 1))


def test_pgd_leaves_an_image_that_is_wrong_already_at_once() -> None:
    model, _, _ = affine(0)
    images = random_images(0, 5, model)
    images = replace(images, labels=(images.labels + 1) % model.num_classes)
    view = model.metered(5)
    attack = PGD(norm=Norm.LINF, random_start=False, restarts=3)
    found = attack.run(view, images, torch.full((5,), 0.01), streams(images)).examples
    assert torch.equal(found, images.pixels)
    assert view.meter.forwards.tolist() == [1.0] * 5


def test_targeted_pgd_moves_to_wrong_classes_only() -> None:
    """Over restarts each wrong class is aimed at; with a large budget each is reached."""
    model, weight, bias = affine(1)
    images = random_images(1, 6, model)
    assert np.isfinite(affine_distances(weight, bias, images, Norm.LINF)).all()
    attack = PGD(norm=Norm.LINF, target="random", steps=20)
    reached: list[set[int]] = [set() for _ in range(6)]
    for seed in range(12):
        verdict = judge(model, images, run(attack, model, images, 0.6, seed), Norm.LINF, 0.6)
        assert verdict.success.all()
        for classes, predicted in zip(reached, verdict.predicted.tolist(), strict=True):
            classes.add(predicted)
    assert sum(map(len, reached)) >= 12


def test_transfer_takes_every_step_on_its_source() -> None:
    source, _, _ = affine(0)
    images = random_images(0, 5, source)
    view = source.metered(5)
    found = Transfer(norm=Norm.LINF).run(view, images, torch.full((5,), 0.3), streams(images)).examples
    assert (source.predict(found).argmax(1) != images.labels).all(), "fooled long before the last step"
    assert view.meter.forwards.tolist() == view.meter.backwards.tolist() == [40.0] * 5


class _Padded(torch.nn.Module):
    """Two more classes, which are never chosen: AutoAttack needs four."""

    def __init__(self, inner: torch.nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.inner(pixels)
        return torch.cat([logits, torch.full_like(logits, -100.0)], dim=1)


class _Scaled(torch.nn.Module):
    def __init__(self, inner: torch.nn.Module, scale: float) -> None:
        super().__init__()
        self.inner, self.scale = inner, scale

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.scale * self.inner(pixels)
        return logits
