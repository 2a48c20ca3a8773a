"""What foolbox's attacks do with the images that they can fool, alone and in their adapters."""

from __future__ import annotations

import numpy as np
import pytest

from adapters import CASES, IDS, raw, run
from oracles import affine, affine_distances, random_images
from robusteval.attacks.external.foolbox_attacks import (
    FoolboxFMN,
)
from robusteval.attacks.external.foolbox_bridge import FoolboxAttack, library
from robusteval.attacks.judge import judge
from robusteval.core.norms import Norm


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
