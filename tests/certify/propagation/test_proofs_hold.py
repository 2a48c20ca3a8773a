"""No attack gets inside a proof: every registered attack, aimed at the balls that CROWN certified."""

from __future__ import annotations

from functools import cache

import pytest
import torch
from torch import nn

from attacking import BOUNDED, CASES, IDS, fast, find, make, streams
from oracles import random_images
from robusteval.attacks.judge import judge
from robusteval.certify.propagation.crown import CROWN
from robusteval.core.images import Images
from robusteval.core.norms import Norm
from robusteval.models.classifier import Classifier
from robusteval.models.making import make_classifier
from robusteval.results.bracket import HOLDS_IN

DEAR = {"autoattack", "boundary", "hopskipjump"}
"""They cost seconds and come closer than no other."""


@cache
def certified(norm: Norm) -> tuple[Classifier, Images, torch.Tensor]:
    """A convolutional network of 5 classes, its images, and the proven radii (N,) float64 in a norm."""
    torch.manual_seed(1)
    network = nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(64, 12),
        nn.ReLU(),
        nn.Linear(12, 5),
    )
    classifier = make_classifier("proven", network, (1, 8, 8))
    images = random_images(5, 3, classifier)
    radii = CROWN(norm=norm).radii(classifier.metered(3), images, (), streams(images)).radius
    assert (radii > 0).all()
    return classifier, images, radii


@pytest.mark.parametrize(
    ("name", "norm"), [c for c in CASES if c[1] is not Norm.L0], ids=[i for i in IDS if "l0" not in i]
)
def test_no_attack_succeeds_inside_a_proof(name: str, norm: Norm) -> None:
    classifier, images, proven = certified(norm)
    radii = proven.float() * (1 - 1e-6) if name in BOUNDED else None
    attack = fast(name, norm) if name in DEAR else make(name, norm)
    found = find(attack, classifier.metered(3), images, radii, streams(images)).examples
    verdict = judge(classifier, images, found, norm, radii)
    if name in BOUNDED:
        assert not verdict.success.any()
    for other in HOLDS_IN[norm.value]:
        # A proof in a smaller norm holds in this one too.
        assert (getattr(verdict, norm.value) >= certified(Norm(other))[2]).all()


@pytest.mark.parametrize("norm", [Norm.L1, Norm.L2, Norm.LINF])
def test_just_beyond_the_proof_is_not_far_from_a_witness(norm: Norm) -> None:
    """The aim is worth something: on some image the closest witness is within ten times the proven radius."""
    classifier, images, proven = certified(norm)
    found = make("fmn", norm).run(classifier.metered(3), images, None, streams(images)).examples
    distance = getattr(judge(classifier, images, found, norm, None), norm.value)
    assert (distance < 10 * proven).any()
