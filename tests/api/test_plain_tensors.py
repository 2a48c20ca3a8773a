"""Methods called on a plain network and plain tensors, outside an audit."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from plain_networks import SHAPE, data, linear
from torch import Tensor, nn

import certificate_cases
import metric_cases
from attacking import BOUNDED, COMPILED, fast
from robusteval import UserError, make_classifier
from robusteval.attacks import ATTACKS
from robusteval.attacks.fgsm import FGSM
from robusteval.attacks.noise import UniformNoise
from robusteval.attacks.pgd import PGD
from robusteval.attacks.transfer import Transfer
from robusteval.certify import CERTIFICATES
from robusteval.certify.propagation.crown import CROWN
from robusteval.core.methods import Guarantee
from robusteval.core.norms import Norm
from robusteval.metrics import METRICS
from robusteval.metrics.base import ImageMetric, SetMetric
from robusteval.metrics.deception import Deception
from robusteval.metrics.noise import NoiseRobustness


@pytest.mark.parametrize("name", [name for name in ATTACKS if name not in COMPILED])
def test_every_attack(name: str) -> None:
    network = linear()
    x, y = data(network)
    attack = fast(name, ATTACKS[name].norms[0])
    budget = 2.0 if name in BOUNDED else None
    source, starts = linear() if attack.on_sources else None, torch.ones_like(x) if attack.on_witnesses else None
    found = attack(network, x, y, budget=budget, source=source, starts=starts)
    assert found.examples.shape == x.shape
    assert found.success.dtype == torch.bool
    wrong = network(found.examples).argmax(1) != y
    assert (wrong == found.success).all(), "what the judge says is what the network says"
    own = found.distances[attack.norm]
    assert (own[found.success] <= (budget or math.inf) * (1 + 1e-6)).all()
    assert own[~found.success].isinf().all()
    assert own[-1] == 0, "a misclassified image is its own example"
    assert found.cost.forwards[-1] == 0
    assert torch.equal(found.examples[-1], x[-1])


@pytest.mark.parametrize("name", CERTIFICATES)
def test_every_certificate(name: str) -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(25, 5), nn.ReLU(), nn.Linear(5, 5))
    x, y = data(network)
    certificate = certificate_cases.small(name, CERTIFICATES[name].norms[0])
    found = certificate(network, x, y, batch_size=4)
    assert found.radius.shape == found.predicted.shape == found.abstained.shape == (6,)
    assert found.radius.dtype == torch.float64
    assert found.guarantee is certificate.kind
    assert found.subject == certificate.subject
    assert (found.radius >= 0).all()
    assert all(values.shape == (6,) for values in found.measurements.values())


@pytest.mark.parametrize("name", METRICS)
def test_every_metric(name: str) -> None:
    classifier = metric_cases.small_net(metric=name)
    images = metric_cases.images_of(metric_cases.random_pixels(6))
    metric = metric_cases.SMALL[name]
    witnesses = None if metric.witnesses_of is None else 0.9 * images.pixels + 0.1 * images.pixels.flip(0)
    assert isinstance(metric, ImageMetric | SetMetric)
    found = metric(classifier, images.pixels, images.labels, witnesses, batch_size=4)
    assert found.measurements or found.statistics
    assert all(values.shape == (6,) for values in found.measurements.values())
    if isinstance(metric, SetMetric):
        assert found.statistics
    if witnesses is not None:
        with pytest.raises(UserError, match="expected adversarial examples as witnesses="):
            metric(classifier, images.pixels, images.labels)


def test_a_budget_is_a_number_a_fraction_or_one_an_image() -> None:
    network = linear()
    x, y = data(network)
    by_number, by_fraction = (FGSM(norm=Norm.LINF)(network, x, y, budget=b) for b in (8 / 255, "8/255"))
    assert torch.equal(by_number.examples, by_fraction.examples)
    radii = torch.tensor([1e-6, 0.5, 0.5, 0.5, 0.5, 0.5])
    each = FGSM(norm=Norm.LINF)(network, x, y, budget=radii)
    assert each.success.tolist() == [False, True, True, True, True, True]
    for wrong in (0.0, -1, "a", math.nan, torch.ones(2), math.inf, True, [0.1]):
        with pytest.raises(UserError, match="budget"):
            FGSM(norm=Norm.LINF)(network, x, y, budget=wrong)  # type: ignore[arg-type]


def test_no_budget_is_the_smallest_distance_and_a_budget_bounds_it() -> None:
    network = linear()
    x, y = data(network)
    smallest = PGD(norm=Norm.LINF)(network, x, y)
    assert smallest.success.all()
    middle = float(smallest.distances["linf"].median())
    within = ATTACKS["deepfool"](norm=Norm.LINF)(network, x, y, budget=middle)
    assert 0 < int(within.success.sum()) < 6
    assert (within.distances["linf"][within.success] <= middle * (1 + 1e-6)).all()


def test_the_batch_size_changes_nothing_and_the_seed_does() -> None:
    network = linear()
    x, y = data(network)
    attack = UniformNoise(norm=Norm.LINF, samples=5)
    one, two = (attack(network, x, y, budget=0.9, batch_size=size) for size in (2, 100))
    assert one.success.sum() > 2
    torch.testing.assert_close(one.examples, two.examples)
    assert not torch.equal(attack(network, x, y, budget=0.9, seed=1).examples, one.examples)


def test_transfer_follows_its_source_and_is_judged_on_the_target() -> None:
    network, source = linear(), linear()
    x, y = data(network)
    found = Transfer(norm=Norm.LINF)(network, x, y, budget=0.3, source=source)
    assert found.success.any()
    with pytest.raises(UserError, match="expected a source model for transfer"):
        Transfer(norm=Norm.LINF)(network, x, y, budget=0.3)


def test_a_proof_holds_against_every_attack() -> None:
    network = linear()
    x, y = data(network)
    proven = CROWN(norm=Norm.LINF)(network, x, y)
    assert proven.guarantee is Guarantee.PROOF
    assert (proven.radius[:-1] > 0).all()
    inside = PGD(norm=Norm.LINF)(network, x[:-1], y[:-1], budget=proven.radius[:-1])
    assert not inside.success.any()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda x, y: (x * 3, y), r"pixels in \[0, 1\]"),
        (lambda x, y: (x, y.float()), "whole numbers"),
        (lambda x, y: (x, y[:2]), "expected 6 labels"),
        (lambda x, y: (x[:, 0], y), r"\(N, C, H, W\)"),
        (lambda x, y: (x, y + 7), "labels from 0 to 4"),
        (lambda x, y: (x.numpy(), y), "torch tensors"),
        (lambda x, y: (x[:0], y[:0]), "at least one image"),
        (lambda x, y: (x.bfloat16(), y), "pixels of float32 or float64"),
    ],
)
def test_what_cannot_be_attacked_is_one_line(change: object, words: str) -> None:
    network = linear()
    x, y = change(*data(network))  # type: ignore[operator]
    with pytest.raises(UserError, match=words) as caught:
        PGD(norm=Norm.LINF)(network, x, y, budget=0.1)
    assert "\n" not in str(caught.value)


def test_a_batch_has_an_image() -> None:
    network = linear()
    for method in (PGD(norm=Norm.LINF), CROWN(norm=Norm.LINF), NoiseRobustness(sigmas=(0.1,), samples=2)):
        with pytest.raises(UserError, match="whole batch size from 1 to 1,048,576, got 0"):
            method(network, *data(network), batch_size=0)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda x: x[:2], "witnesses of shape"),
        (lambda x: x + 2, r"witnesses with pixels in \[0, 1\]"),
        (lambda x: x.tolist(), "witnesses as a tensor, such as .examples of an attack, got list"),
    ],
)
def test_what_is_no_witness_is_one_line(change: Callable[[Tensor], object], words: str) -> None:
    network = linear()
    x, y = data(network)
    with pytest.raises(UserError, match=words):
        Deception(witnesses="pgd-linf")(network, x, y, change(x))  # type: ignore[arg-type]


def test_witnesses_come_in_any_floating_point_type() -> None:
    network = linear()
    x, y = data(network)
    found = PGD(norm=Norm.LINF)(network, x.double(), y, budget=0.3)
    seen = Deception(witnesses="pgd-linf")(network, x, y, found.examples)
    assert (seen.measurements["deceptive_class", 0.0][:-1] != y[:-1]).all()


def test_inference_mode_has_no_gradients_and_is_refused() -> None:
    network = linear()
    x, y = data(network)
    with torch.inference_mode():
        inside = x.clone()
        with pytest.raises(UserError, match=r"outside torch.inference_mode\(\)"):
            PGD(norm=Norm.LINF)(network, x, y, budget=0.1)
    with pytest.raises(UserError, match=r"outside torch.inference_mode\(\)"):
        PGD(norm=Norm.LINF)(network, inside, y, budget=0.1)
    with torch.no_grad():
        assert PGD(norm=Norm.LINF)(network, x, y, budget=0.3).success.all()


def test_results_say_what_they_are_in_a_line() -> None:
    network = linear()
    x, y = data(network)
    found = PGD(norm=Norm.LINF)(network, x, y, budget=0.3)
    assert repr(found).startswith("AttackResult(attack: PGD, Linf, broken: 6 of 6, median Linf distance: ")
    assert "<td>6 of 6</td>" in found._repr_html_()
    certified = CROWN(norm=Norm.LINF)(network, x, y)
    assert repr(certified).startswith("CertificateResult(CROWN (proof), Linf of f: 5 of 6 above 0, median ")
    kept = NoiseRobustness(sigmas=(0.1,), samples=2)(network, x, y)
    assert repr(kept).startswith("MetricResult(Gaussian noise: kept, ")
    assert repr(make_classifier("net", network, SHAPE)) == "Classifier('net', 1x5x5, 5 classes, float32)"
