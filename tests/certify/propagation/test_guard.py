"""The guard catches what a graph does not show, on the images themselves, near them, and on odd ones."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from propagating import F64, NETWORKS, candidates, images_for, proven, small
from robusteval.auditing.protocol import parse_protocol
from robusteval.auditing.session import run_audit
from robusteval.certify.propagation import program
from robusteval.certify.propagation.trace import trace
from robusteval.core.errors import UnsupportedError, UserError
from robusteval.core.images import Images
from robusteval.core.norms import Norm
from robusteval.models.architectures import ARCHITECTURES
from robusteval.models.classifier import Classifier
from robusteval.models.making import make_classifier
from robusteval.reports.certification.page import write_certification

SHAPE = (1, 5, 5)
IMAGE = torch.rand(1, *SHAPE, generator=torch.Generator().manual_seed(8))


@pytest.fixture(autouse=True)
def _nothing_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that hooks, which are refused by name, stand for whatever else a graph may miss."""
    monkeypatch.setattr(program, "refuse_unseen", lambda module, name: None)


def hooked(hook: Callable[[Tensor, Tensor], Tensor], layers: int = 1) -> Classifier:
    """A network of so many convolutions that answers hook(image, logits): a hook on the whole is in no program."""
    torch.manual_seed(1)
    body = [part for k in range(layers) for part in (nn.Conv2d(4 if k else 1, 4, 3, padding=1), nn.ReLU())]
    classifier = make_classifier("hooked", nn.Sequential(*body, nn.Flatten(), nn.Linear(100, 3)), SHAPE)
    classifier.module.register_forward_hook(lambda m, inputs, logits: hook(inputs[0], logits))
    return classifier


def where(chosen: Callable[[Tensor], Tensor]) -> Callable[[Tensor, Tensor], Tensor]:
    """Other logits for some images."""
    return lambda x, logits: torch.where(chosen(x)[:, None], -logits, logits)


def _spread(x: Tensor) -> Tensor:
    return x.flatten(1).amax(1) - x.flatten(1).amin(1)


def _distance(x: Tensor) -> Tensor:
    return (x - IMAGE).abs().flatten(1).amax(1)


ODD: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "dark": where(lambda x: x.flatten(1).mean(1) < 0.01),
    "bright": where(lambda x: x.flatten(1).mean(1) > 0.99),
    "grey": where(lambda x: (_spread(x) < 1e-6) & (x.flatten(1).mean(1) > 0.4)),
    "corner": where(lambda x: ((x == 0) | (x == 1)).flatten(1).all(1) & (_spread(x) == 1)),
    "noise": where(lambda x: (_spread(x) > 0.5) & ~((x == 0) | (x == 1)).flatten(1).all(1)),
    "everywhere, a little": lambda x, logits: logits * (1 + 1e-4),
    "one class": lambda x, logits: logits + torch.tensor([0.0, 1e-4, 0.0]),
    "half precision": lambda x, logits: logits.half().float(),
    "no number": lambda x, logits: torch.where(x.flatten(1).mean(1)[:, None] > 0.99, torch.nan, logits),
    "fails": lambda x, logits: logits if x.flatten(1).mean(1).min() > 0.01 else logits @ logits,
}


@pytest.mark.parametrize("what", ODD)
@pytest.mark.parametrize("layers", [1, 9])
def test_images_that_no_data_set_has_are_tried(what: str, layers: int) -> None:
    with pytest.raises(
        UnsupportedError, match=r"expected a network that (does what its layers say|answers any images)"
    ):
        trace(hooked(ODD[what], layers))


NEAR = {
    "the image itself": where(lambda x: _distance(x) == 0),
    "a step away": where(lambda x: (_distance(x) > 0) & (_distance(x) < 0.05)),
    "an eighth of the radius away": where(lambda x: (_distance(x) > 0) & (_distance(x) < 0.02)),
}


@pytest.mark.parametrize("what", NEAR)
@pytest.mark.parametrize("name", ["ibp", "lipschitz"])
def test_the_images_and_those_in_their_balls_are_tried(what: str, name: str) -> None:
    classifier = hooked(NEAR[what])
    assert trace(classifier).classes == 3
    pixels = IMAGE.expand(3, -1, -1, -1)
    images = Images(("a", "b", "c"), pixels, classifier.predict(pixels).argmax(1))
    with pytest.raises(UnsupportedError, match="does what its layers say"):
        proven(name, Norm.LINF, classifier, images)


def test_one_image_that_shows_it_makes_the_whole_stage_unavailable(tmp_path: Path) -> None:
    pixels = torch.cat([torch.rand(5, *SHAPE, generator=torch.Generator().manual_seed(9)), IMAGE])
    classifier = hooked(NEAR["the image itself"])
    images = Images(tuple("abcdef"), pixels, classifier.predict(pixels).argmax(1))
    protocol = parse_protocol({"certificates": [{"method": "ibp", "norm": "linf"}]}, "one")
    run = run_audit(classifier, images, protocol, tmp_path / "run", batch_size=2)
    record = run.manifest.stage("ibp-linf")
    assert record.status == "unavailable"
    assert "does what its layers say" in record.reason
    assert run.table("certificates").empty
    assert not run.bounds()["proof_linf"].any()
    with pytest.raises(UserError, match=r"got none that ran: .* does what its layers say"):
        write_certification(run)


def test_a_network_in_less_precision_than_it_says_is_caught() -> None:
    """In a single layer in the middle of a deep network, whose logits hardly show it."""
    torch.manual_seed(2)
    classifier = make_classifier("deep", ARCHITECTURES["cnn7-mnist"].network(), (1, 28, 28))
    layer = [m for m in classifier.module.modules() if isinstance(m, nn.Conv2d)][2]
    layer.register_forward_hook(lambda m, inputs, output: output.bfloat16().float())
    with pytest.raises(UnsupportedError, match="the layer 'network_"):
        trace(classifier)


@pytest.mark.parametrize("dtype", [torch.float32, F64])
@pytest.mark.parametrize("network", NETWORKS)
def test_rounding_is_no_alarm(network: str, dtype: torch.dtype) -> None:
    classifier = small(network, dtype)
    with torch.no_grad():
        for parameter in classifier.module.parameters():
            parameter.mul_(30)
    images = images_for(classifier, 40)
    proven("lipschitz", Norm.L2, classifier, images)


def test_rounding_is_no_alarm_in_a_deep_network() -> None:
    torch.manual_seed(2)
    classifier = make_classifier("resnet18", ARCHITECTURES["resnet18"].network(), (3, 32, 32))
    assert trace(classifier).classes == 10
    assert candidates(1, (3, 32, 32)).shape == (1, 3, 32, 32)
