"""The traps of pyautoattack, each shown in the library where that is cheap, then shut in its adapter."""

from __future__ import annotations

import pytest
import torch

from adapters import run, streams
from oracles import affine, affine_distances, random_images
from robusteval.attacks.external.autoattack import AutoAttack
from robusteval.attacks.judge import judge
from robusteval.core.errors import UnsupportedError
from robusteval.core.norms import Norm


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
        attack.run(view, images, torch.full((2,), 1e-6), streams(images))
        costs.append((view.meter.forwards[0].item(), view.meter.backwards[0].item()))
    (forwards, backwards), longer, broader = costs
    restarts = 5 if norm is Norm.L1 else 1
    assert longer[1] - backwards == 15 * (restarts + 4 + 4), "APGD-CE, and APGD-T and FAB-T on four classes"
    assert broader == (forwards + 45, backwards)
