"""The traps of foolbox, each shown in the library where that is cheap, then shut in its adapter: what is returned
where nothing was found, and what one image does to the others."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from adapters import CASES, IDS, SMALL, bump, made, plateau, raw, run, seen, streams, two, wrong
from oracles import affine, random_images
from robusteval.attacks.external.foolbox_attacks import EAD, CarliniWagner, FoolboxDDN, FoolboxFMN
from robusteval.attacks.external.foolbox_bridge import FoolboxAttack, StartingAttack
from robusteval.attacks.external.foolbox_decisions import Boundary, HopSkipJump
from robusteval.attacks.external.libraries import or_itself
from robusteval.core.errors import UnsupportedError, UserError
from robusteval.core.images import Images
from robusteval.core.norms import Norm
from robusteval.core.streams import Streams

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
    first = attack.found(model.metered(3), images, streams(images))
    assert wrong(model, images, first) == [True, False, True]
    assert torch.equal(first[1], images.pixels[1])
    assert all(wrong(model, images, run(attack, model, images))), "tried again from a starting point"


@pytest.mark.parametrize("error", [ValueError, IndexError, AssertionError, UserError, UnsupportedError, RuntimeError])
def test_an_error_of_the_model_is_not_taken_for_one_of_the_library(error: type[Exception]) -> None:
    """Else a bug in a network would make it look robust."""
    calls = 0

    def logits(x: Tensor) -> Tensor:
        nonlocal calls
        calls += 1
        if calls > 1:
            raise error("a bug")
        return two(x.flatten(1).mean(1) - 0.5)

    calls = -1000
    model = made(logits)
    images = seen(model, torch.full((2, 1, 8, 8), 0.4))
    calls = 0
    with pytest.raises(error, match="a bug"):
        run(FoolboxDDN(norm=Norm.L2), model, images)
