"""PDGD and PDPGD: the scale of the logits and the batch change nothing; every evaluation is declared."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from attacking import make, streams
from robusteval.attacks import ATTACKS
from robusteval.attacks.base import Attack
from robusteval.core.images import Images
from robusteval.core.norms import Norm
from robusteval.models.classifier import Classifier
from robusteval.models.making import make_classifier

CASES = [(name, norm) for name in ("pdgd", "pdpgd") for norm in ATTACKS[name].norms]


def network(factor: float, shape: tuple[int, int, int] = (1, 4, 4), classes: int = 3) -> Classifier:
    torch.manual_seed(0)
    size = torch.Size(shape).numel()
    last = nn.Linear(20, classes)
    layers = nn.Sequential(nn.Flatten(), nn.Linear(size, 20), nn.ReLU(), last)
    with torch.no_grad():
        last.weight.mul_(factor)
        last.bias.mul_(factor)
    return make_classifier("scaled", layers, shape).to("cpu", torch.float64)


def labelled(classifier: Classifier, n: int = 6) -> Images:
    pixels = torch.rand(n, *classifier.input_shape, generator=torch.Generator().manual_seed(1)).double()
    return Images(tuple(map(str, range(n))), pixels, classifier.metered(n).predict(pixels).argmax(1))


def attack(name: str, norm: Norm, steps: int = 60) -> Attack:
    return make(name, norm, steps=steps)


@pytest.mark.parametrize(("name", "norm"), CASES)
def test_the_scale_of_the_logits_changes_nothing(name: str, norm: Norm) -> None:
    distances = []
    for factor in (1.0, 2.0**10, 2.0**-10):
        classifier = network(factor)
        images = labelled(classifier)
        found = attack(name, norm).run(classifier.metered(6), images, None, streams(images)).examples
        assert (classifier.metered(6).predict(found).argmax(1) != images.labels).any()
        distances.append(norm.size(found - images.pixels))
    for other in distances[1:]:
        assert torch.allclose(distances[0], other, rtol=1e-6)


@pytest.mark.parametrize(("name", "norm"), CASES)
@pytest.mark.parametrize("steps", [1, 60, 481])
def test_an_image_alone_gives_the_same_and_every_evaluation_is_declared(name: str, norm: Norm, steps: int) -> None:
    classifier = network(1.0)
    images = labelled(classifier, 3)
    view = classifier.metered(3)
    own = attack(name, norm, steps)
    found = own.run(view, images, None, streams(images)).examples
    declared = own.passes(1, 3)
    assert declared is not None
    assert view.meter.backwards.tolist() == [steps] * 3
    assert (view.meter.forwards <= declared.forward).all()
    row = torch.tensor([1])
    alone = own.run(classifier.metered(1), images.select(row), None, streams(images).select(row)).examples
    assert torch.allclose(alone, found[row], atol=1e-9)


@pytest.mark.parametrize(("name", "norm"), CASES)
def test_one_pixel_and_many_classes(name: str, norm: Norm) -> None:
    classifier = network(1.0, (1, 1, 1), 1000)
    images = labelled(classifier)
    found = attack(name, norm).run(classifier.metered(6), images, None, streams(images)).examples
    wrong = classifier.metered(6).misclassifies(found, images.labels)
    assert wrong.any()
    assert ((found >= 0) & (found <= 1)).all()


def test_a_search_that_found_nothing_begins_anew_at_random() -> None:
    """Both images lie where nothing changes with the pixels; only another start sees the other class."""
    first, last = nn.Linear(16, 1), nn.Linear(1, 2)
    layers = nn.Sequential(nn.Flatten(), first, nn.ReLU(), last)
    with torch.no_grad():
        first.weight.fill_(1.0)
        first.bias.fill_(-4.0)
        last.weight.copy_(torch.tensor([[0.0], [1.0]]))
        last.bias.copy_(torch.tensor([0.5, 0.0]))
    classifier = make_classifier("flat", layers, (1, 4, 4)).to("cpu", torch.float64)
    images = Images(("a", "b"), torch.zeros(2, 1, 4, 4).double(), torch.zeros(2).long())
    for steps, broken in ((240, False), (480, True)):
        found = attack("pdgd", Norm.L2, steps).run(classifier.metered(2), images, None, streams(images)).examples
        assert classifier.metered(2).misclassifies(found, images.labels).all() == broken
    assert (Norm.L2.size(found) < 1.5 * 4.5 / 4).all()
