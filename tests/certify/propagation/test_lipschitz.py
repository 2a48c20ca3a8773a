"""The proven Lipschitz constant: never below what is seen, tight where the layer's norm is known, and its radius."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import attacking
import oracles
from propagating import NETWORKS, candidates, ignore, images_for, proven, small, steps_within
from robusteval.certify.base import State
from robusteval.certify.propagation.lipschitz import Lipschitz
from robusteval.certify.propagation.lipschitz_constants import layer_constants, value_constants
from robusteval.certify.propagation.ops import Max
from robusteval.certify.propagation.places import Windows
from robusteval.certify.propagation.spectral_norms import largest_of_convolution, largest_singular
from robusteval.certify.propagation.trace import trace
from robusteval.certify.propagation.weighted import Conv2d
from robusteval.core import memory
from robusteval.core.norms import BALLS, Norm
from robusteval.core.streams import Streams
from robusteval.models.classifier import Classifier
from robusteval.models.making import make_classifier

F64 = torch.float64


def matrix_norm(matrix: Tensor, norm: Norm) -> float:
    """The operator norm of matrices (..., m, n) in L1, L2 or Linf."""
    return float(torch.linalg.matrix_norm(matrix, {Norm.L1: 1, Norm.L2: 2, Norm.LINF: np.inf}[norm]).max())


def prepared(norm: Norm, classifier: Classifier) -> State:
    images = images_for(classifier, 5)
    of_set = Streams.for_set(0, "lipschitz", images.pixels)
    return Lipschitz(norm=norm).prepare(classifier, images, of_set, ignore)


# Spectral norms


@pytest.mark.parametrize("shape", [(1, 1), (40, 40), (200, 30), (30, 200)])
@pytest.mark.parametrize("kind", ["normal", "orthogonal", "low rank", "tiny", "complex"])
def test_the_gram_bound_is_above_the_largest_singular_value_and_within_a_percent(
    shape: tuple[int, int], kind: str
) -> None:
    generator = torch.Generator().manual_seed(2)
    matrix = torch.randn(shape, generator=generator, dtype=F64)
    if kind == "orthogonal":
        matrix = torch.linalg.svd(matrix, full_matrices=False)[0]
    elif kind == "low rank":
        matrix = matrix[:, :1] @ matrix[:1]
    elif kind == "tiny":
        matrix = matrix * 1e-200
    elif kind == "complex":
        matrix = torch.complex(matrix, torch.randn(shape, generator=generator, dtype=F64))
    exact = float(torch.linalg.svdvals(matrix)[0])
    bound = float(largest_singular(matrix[None]))
    assert exact <= bound <= 1.01 * exact


def test_the_gram_bound_of_nothing_is_nothing() -> None:
    assert float(largest_singular(torch.zeros(1, 3, 4, dtype=F64))) < 1e-250


def dense(op: Conv2d, channels: int) -> Tensor:
    """The matrix of a convolution on its plane."""
    one = torch.eye(channels * op.view.plane[0] * op.view.plane[1], dtype=F64).view(-1, channels, *op.view.plane)
    return op.apply(one).flatten(1).T


CONVOLUTIONS = [
    ((6, 4, 3, 3), (1, 1), (1, 1), (1, 1), 1, (7, 8)),
    ((6, 4, 3, 3), (2, 2), (1, 1), (1, 1), 1, (7, 8)),
    ((5, 4, 3, 2), (2, 1), (0, 1), (1, 1), 1, (9, 6)),
    ((6, 2, 3, 3), (1, 1), (2, 2), (2, 2), 2, (8, 8)),
    ((4, 1, 2, 2), (2, 2), (0, 0), (1, 1), 4, (8, 8)),
    ((6, 4, 1, 1), (1, 1), (0, 0), (1, 1), 1, (5, 5)),
]


@pytest.mark.parametrize(("shape", "stride", "padding", "dilation", "groups", "plane"), CONVOLUTIONS)
def test_convolutions_are_bounded_from_above(
    shape: tuple[int, ...],
    stride: tuple[int, int],
    padding: tuple[int, int],
    dilation: tuple[int, int],
    groups: int,
    plane: tuple[int, int],
) -> None:
    generator = torch.Generator().manual_seed(4)
    weight = torch.randn(shape, generator=generator, dtype=F64)
    op = Conv2d(weight, None, Windows((shape[2], shape[3]), stride, padding, dilation, plane), groups)
    exact = matrix_norm(dense(op, shape[1] * groups), Norm.L2)
    bound = largest_of_convolution(op)
    # A zero-padded convolution of a plane this small is up to a third below the periodic one.
    assert exact <= bound <= 1.35 * exact
    if stride == shape[2:]:
        # Windows side by side: the matrix is block-diagonal, periodic or not.
        assert bound <= 1.01 * exact
    with memory.at_most(1):
        assert largest_of_convolution(op) == pytest.approx(bound, rel=1e-9)


@pytest.mark.parametrize("stride", [1, 2])
def test_a_periodic_convolution_gets_the_norm_of_its_matrix(stride: int) -> None:
    """On a torus of the size of the plane (no padding) the blocks of the Fourier basis hold all its singular values."""
    generator = torch.Generator().manual_seed(4)
    weight = torch.randn(5, 3, 3, 3, generator=generator, dtype=F64)
    op = Conv2d(weight, None, Windows((3, 3), (stride, stride), (0, 0), (1, 1), (8, 8)))
    one = torch.eye(3 * 64, dtype=F64).view(-1, 3, 8, 8)
    rolled = nn.functional.conv2d(nn.functional.pad(one, (0, 2, 0, 2), mode="circular"), weight, stride=stride)
    exact = matrix_norm(rolled.flatten(1), Norm.L2)
    assert exact <= largest_of_convolution(op) <= 1.01 * exact


def test_the_torus_holds_the_padding() -> None:
    """On a torus of one pixel all taps would fall on one another, and here cancel."""
    weight = torch.full((1, 1, 3, 3), -0.125, dtype=F64)
    weight[..., 1, 1] = 1
    op = Conv2d(weight, None, Windows((3, 3), (1, 1), (1, 1), (1, 1), (1, 1)))
    assert largest_of_convolution(op) >= 1


# Constants of networks


def jacobians(classifier: Classifier, x: Tensor) -> Tensor:
    """(N, K, D) float64."""
    return classifier.to("cpu", F64).jacobian(x.double())[1].flatten(2)


@pytest.mark.parametrize("norm", BALLS)
@pytest.mark.parametrize("network", NETWORKS)
def test_the_constant_is_above_every_sampled_slope(network: str, norm: Norm) -> None:
    classifier = small(network)
    state = {(s.quantity, s.at): s.value for s in prepared(norm, classifier)}
    rows = jacobians(classifier, candidates(60, classifier.input_shape))
    differences = (rows[:, :, None] - rows[:, None]).flatten(0, 2)
    steepest = float(norm.dual.size(differences).max())
    assert steepest <= state["lipschitz", 0] < 200 * steepest
    graph = trace(classifier)
    assert len([q for q, _ in state if q == "lipschitz_layer"]) == len(graph.nodes)
    # In its own norm, and before the last affine layers, too.
    features = value_constants(graph, layer_constants(graph, norm), norm)
    assert matrix_norm(jacobians(classifier, candidates(30, classifier.input_shape)), norm) <= features[-1]


@pytest.mark.parametrize("norm", BALLS)
def test_a_single_dense_layer_is_exact(norm: Norm) -> None:
    classifier, weight, _ = oracles.affine(5)
    graph = trace(classifier)
    exact = matrix_norm(torch.from_numpy(weight), norm)
    (k,) = [k for k, node in enumerate(graph.nodes) if k == graph.last]
    assert exact <= layer_constants(graph, norm)[k] <= 1.01 * exact
    values = {s.quantity: s.value for s in prepared(norm, classifier)}
    pairs = torch.from_numpy(weight[:, None] - weight[None]).flatten(0, 1)
    assert values["lipschitz"] == pytest.approx(float(norm.dual.size(pairs).max()), rel=1e-9)
    assert values["lipschitz"] >= float(norm.dual.size(pairs).max())


@pytest.mark.parametrize("norm", BALLS)
def test_overlapping_windows_are_counted(norm: Norm) -> None:
    """The steepest step is one pixel that is the maximum of every window that holds it."""
    network = nn.Sequential(nn.MaxPool2d(3, 1, 1), nn.Flatten(), nn.Linear(64, 2))
    graph = trace(make_classifier("pool", network, (1, 8, 8)))
    (op,) = [node.op for node in graph.nodes if isinstance(node.op, Max)]
    pixels = torch.zeros(1, 1, 8, 8, dtype=F64)
    pixels[..., 4, 4] = 1
    step = norm.size(op.apply(pixels) - op.apply(0 * pixels))
    constant = layer_constants(graph, norm)[1]
    assert float(step) <= constant * (1 + 1e-12)
    assert float(step) == pytest.approx(constant)


class Twice(nn.Module):
    """Its image added to itself, and both beside one another."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(32, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = x + x
        logits: Tensor = self.linear(torch.cat([x, x], dim=1).flatten(1))
        return logits


@pytest.mark.parametrize("norm", BALLS)
def test_branches_add_up(norm: Norm) -> None:
    graph = trace(make_classifier("twice", Twice(), (1, 4, 4)))
    constants = value_constants(graph, layer_constants(graph, norm), norm)
    assert constants[1] == pytest.approx(2)
    assert constants[2] == pytest.approx(2 * 2 ** (1 / norm.p))


def test_batch_normalisation_is_one_layer_with_its_convolution() -> None:
    """Channels that are scaled up where the convolution is small: apart, the constants multiply to far more."""
    conv, norm = nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2)
    with torch.no_grad():
        conv.weight.copy_(torch.tensor([1.0, 0.01]).view(2, 1, 1, 1))
        norm.weight.copy_(torch.tensor([0.01, 1.0]))
    network = nn.Sequential(conv, norm.eval(), nn.ReLU(), nn.Flatten(), nn.Linear(32, 2))
    graph = trace(make_classifier("scaled", network, (1, 4, 4)))
    constants = value_constants(graph, layer_constants(graph, Norm.L2), Norm.L2)
    assert constants[2] == pytest.approx(0.01 * 2**0.5, rel=1e-3)


# The radius


@pytest.mark.parametrize("norm", BALLS)
def test_affine_networks_are_certified_up_to_the_distance_without_the_box(norm: Norm) -> None:
    classifier, weight, bias = oracles.affine(3)
    images = oracles.random_images(1, 20, classifier)
    radius = proven("lipschitz", norm, classifier, images).numpy()
    assert (radius <= oracles.affine_distances(weight, bias, images, norm)).all()
    logits = images.pixels.double().flatten(1).numpy() @ weight.T + bias
    label = images.labels.numpy()
    own = logits[range(20), label][:, None] - logits
    slope = norm.dual.size(torch.from_numpy(weight[label][:, None] - weight).flatten(0, 1)).view(20, -1).numpy()
    exact = np.where(slope > 0, own / np.maximum(slope, 1e-9), np.inf).min(1)
    assert (radius <= exact).all()
    assert (radius > exact * 0.99 - 1e-5).all()


@pytest.mark.parametrize("norm", BALLS)
@pytest.mark.parametrize("network", NETWORKS)
def test_nothing_within_the_radius_is_misclassified(network: str, norm: Norm) -> None:
    classifier = small(network)
    images = images_for(classifier, 12)
    radius = proven("lipschitz", norm, classifier, images)
    assert (radius > 0).all()
    moved = steps_within(norm, radius, images, 40)
    assert (classifier.predict(moved.flatten(0, 1)).argmax(1).view(40, -1) == images.labels).all()
    attack = attacking.make("pgd", norm, steps=20)
    found = attack.run(classifier.metered(12), images, radius.float() * (1 - 1e-6), attacking.streams(images))
    assert not classifier.misclassifies(found.examples, images.labels).any()


def test_rounding_is_taken_off_the_margin() -> None:
    """A margin of a few float32 units, though every logit is computed the same way, is no margin."""
    layer = nn.Linear(128, 2)
    with torch.no_grad():
        layer.weight.copy_(torch.stack([torch.ones(128), torch.ones(128)]))
        layer.weight[0, 0] += 1e-4
        layer.bias.zero_()
    classifier = make_classifier("even", nn.Sequential(nn.Flatten(), layer), (2, 8, 8))
    images = images_for(classifier, 6)
    assert (proven("lipschitz", Norm.L2, classifier, images) == 0).all()
    exact = proven("lipschitz", Norm.L2, classifier.to("cpu", F64), images_for(classifier.to("cpu", F64), 6))
    assert (exact > 0).any()
