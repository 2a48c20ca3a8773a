"""Proofs by bound propagation: exact where they must be, sound everywhere, for the network as it is evaluated."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import brentq, linprog
from torch import Tensor, nn

import attacking
import oracles
from propagating import NETWORKS, SHAPE, candidates, images_for, proven, small, steps_within
from robusteval.certify.propagation import alpha_crown as slopes
from robusteval.certify.propagation.ball import InputBall, largest_change
from robusteval.certify.propagation.base import LARGEST
from robusteval.certify.propagation.crown import CROWN
from robusteval.certify.propagation.graph import Graph
from robusteval.certify.propagation.ibp import IBP
from robusteval.certify.propagation.intermediate_bounds import refined
from robusteval.certify.propagation.interval_bounds import propagated
from robusteval.certify.propagation.margins import interval_margins, linear_margins
from robusteval.certify.propagation.ops import Affine, Max
from robusteval.certify.propagation.places import Windows
from robusteval.certify.propagation.radius_search import largest_radius
from robusteval.certify.propagation.relaxation import relaxed
from robusteval.certify.propagation.rounding import Precision
from robusteval.certify.propagation.trace import trace
from robusteval.certify.propagation.values import Interval
from robusteval.core import memory
from robusteval.core.errors import UnsupportedError
from robusteval.core.norms import BALLS, Norm
from robusteval.models.architectures import ARCHITECTURES
from robusteval.models.classifier import Classifier
from robusteval.models.making import make_classifier

F64 = torch.float64
TOLERANCE = 1e-3


def evaluated(graph: Graph, x: Tensor) -> list[Tensor]:
    """All values of a graph at images x, in float64."""
    values = [x.double()]
    for node in graph.nodes[1:]:
        value = node.op.apply(*(values[j] for j in node.inputs))  # type: ignore[attr-defined]
        bias = node.op.bias if isinstance(node.op, Affine) else None
        values.append(value if bias is None else value + bias)
    return values


# Exact distances


@pytest.mark.parametrize("norm", BALLS)
@pytest.mark.parametrize("name", ["ibp", "crown"])
def test_affine_networks_get_their_exact_distance(name: str, norm: Norm) -> None:
    classifier, weight, bias = oracles.affine(3)
    images = oracles.random_images(1, 20, classifier)
    ratio = proven(name, norm, classifier, images, tolerance=TOLERANCE).numpy()
    ratio = ratio / oracles.affine_distances(weight, bias, images, norm)
    assert (ratio <= 1).all()
    # The float32 allowance costs up to 2e-3 of the smallest distances.
    assert (ratio > 1 - TOLERANCE - 3e-3).all()


@pytest.mark.parametrize("seed", range(3))
def test_two_layer_networks_are_never_certified_beyond_the_exact_distance(seed: int) -> None:
    classifier, parameters = oracles.two_layer(seed)
    images = oracles.random_images(1, 5, classifier)
    pairs = zip(images.pixels.double().flatten(1).numpy(), images.labels.tolist(), strict=True)
    exact = np.array([oracles.two_layer_linf(parameters, x, label) for x, label in pairs])
    for name, least in (("ibp", 0.3), ("crown", 0.5)):
        ratio = proven(name, Norm.LINF, classifier, images, tolerance=TOLERANCE).numpy() / np.minimum(exact, 1)
        assert (ratio <= 1).all()
        assert (ratio > least).all()


# Soundness


@pytest.mark.parametrize("norm", BALLS)
@pytest.mark.parametrize("network", NETWORKS)
def test_nothing_within_a_certified_radius_is_misclassified(network: str, norm: Norm) -> None:
    classifier = small(network)
    images = images_for(classifier, 6)
    found = {name: proven(name, norm, classifier, images) for name in ("ibp", "crown")}
    assert (found["crown"] >= found["ibp"]).all()
    assert found["crown"].mean() > 1.3 * found["ibp"].mean()
    for radius in found.values():
        assert (radius > 0).all()
        moved = steps_within(norm, radius, images, 60)
        assert (classifier.predict(moved.flatten(0, 1)).argmax(1).view(60, -1) == images.labels).all()
        attack = attacking.make("pgd", norm, steps=20)
        candidates = attack.run(classifier.metered(6), images, radius.float() * (1 - 1e-6), attacking.streams(images))
        assert not classifier.misclassifies(candidates.examples, images.labels).any()


@pytest.mark.parametrize("norm", BALLS)
@pytest.mark.parametrize("network", NETWORKS)
def test_every_value_and_every_margin_stays_within_its_bounds(network: str, norm: Norm) -> None:
    """Sharper than classes: each number inside the network, at random images of balls in which much is undecided."""
    classifier = small(network)
    graph, images = trace(classifier), images_for(classifier, 6)
    x = images.pixels.double()
    eps = 0.1 * norm.size(torch.maximum(x, 1 - x))
    ball = InputBall(norm, x, eps)
    moved = steps_within(norm, eps, images, 40).flatten(0, 1)
    values = evaluated(graph, moved)
    rows = classifier.predict(moved).double()
    found = {}
    for tighten in (None, refined(graph, ball, 10**9)):
        known = propagated(graph, ball, tighten)
        for value, here in zip(values, known, strict=True):
            value = value.unflatten(0, (40, -1))
            assert (value >= here.interval.lower).all()
            assert (value <= here.interval.upper).all()
        found[tighten is None] = [k.interval.upper - k.interval.lower for k in known]
        for bound in (interval_margins, linear_margins):
            least = bound(graph, known, ball, images.labels)
            own = rows.gather(1, images.labels.repeat(40)[:, None])
            others = torch.ones_like(rows, dtype=torch.bool).scatter(1, images.labels.repeat(40)[:, None], False)
            margins = (own - rows)[others].view(40, len(x), -1)
            assert (margins >= least).all()
    assert all((tight <= wide).all() for tight, wide in zip(found[False], found[True], strict=True))
    # In L1 the first layer, which is exact, leaves little to gain.
    assert (
        norm is Norm.L1
        or sum((tight < 0.9 * wide).sum() for tight, wide in zip(found[False], found[True], strict=True)) > 10
    )


@pytest.mark.parametrize("norm", BALLS)
def test_optimised_slopes_never_give_less_and_mostly_more(norm: Norm) -> None:
    classifier = small("pooled" if norm is Norm.LINF else "dense")
    images = images_for(classifier, 6)
    plain, better = (proven("crown", norm, classifier, images, optimise=n) for n in (0, 5))
    assert (better >= plain).all()
    assert better.mean() > 1.003 * plain.mean()
    moved = steps_within(norm, better, images, 60)
    assert (classifier.predict(moved.flatten(0, 1)).argmax(1).view(60, -1) == images.labels).all()


def test_slopes_that_overshoot_do_no_harm() -> None:
    """With steps far too long: never below CROWN's margins, never above those of any image."""
    classifier = small("dense")
    graph, images = trace(classifier), images_for(classifier, 8)
    eps = torch.full((8,), 0.1, dtype=F64)
    ball = InputBall(Norm.LINF, images.pixels.double(), eps)
    known = propagated(graph, ball, refined(graph, ball, 10**9))
    plain = linear_margins(graph, known, ball, images.labels)
    moved = classifier.predict(steps_within(Norm.LINF, eps, images, 400).flatten(0, 1)).double().view(400, 8, -1)
    own = moved.gather(2, images.labels.expand(400, -1)[..., None])
    others = torch.ones_like(moved, dtype=torch.bool).scatter(2, images.labels.expand(400, -1)[..., None], False)
    seen = (own - moved)[others].view(400, 8, -1).amin(0)
    for steps in (1, 8):
        better = slopes.optimised_margins(graph, known, ball, images.labels, steps, rate=3.0)
        assert (better >= plain).all()
        assert (better <= seen).all()


def test_backward_passes_inside_the_network_pay_and_can_be_forgone() -> None:
    classifier = small("pooled")
    images = images_for(classifier, 10)
    full, cheap = (proven("crown", Norm.LINF, classifier, images, affordable=a) for a in (10**8, 0))
    assert full.mean() > 1.05 * cheap.mean()
    assert (cheap >= proven("ibp", Norm.LINF, classifier, images)).all()


def test_small_pieces_give_the_same_bounds() -> None:
    classifier = small("pooled", F64)
    images = images_for(classifier, 2)
    whole = proven("crown", Norm.L2, classifier, images)
    for numbers in (2**13, 1):
        with memory.at_most(numbers):
            assert (proven("crown", Norm.L2, classifier, images) - whole).abs().max() < 1e-9


def test_windows_that_see_nothing_but_padding_are_no_trouble() -> None:
    torch.manual_seed(1)
    network = nn.Sequential(
        nn.Conv2d(2, 3, 3), nn.ReLU(), nn.Conv2d(3, 2, 1, padding=2), nn.ReLU(), nn.Flatten(), nn.Linear(200, 3)
    )
    classifier = make_classifier("padded", network, SHAPE)
    images = images_for(classifier, 2)
    whole = proven("crown", Norm.LINF, classifier, images)
    assert (whole > proven("ibp", Norm.LINF, classifier, images)).all()
    with memory.at_most(2**10):
        assert torch.allclose(proven("crown", Norm.LINF, classifier, images), whole, rtol=0.02)


def test_no_more_images_are_held_at_a_time_than_a_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    seen, margins = [], IBP.margins

    def spied(self: IBP, graph: Graph, ball: InputBall, labels: Tensor) -> Tensor:
        seen.append(len(ball.x))
        return margins(self, graph, ball, labels)

    monkeypatch.setattr(IBP, "margins", spied)
    classifier, _, _ = oracles.affine(3)
    assert (proven("ibp", Norm.LINF, classifier, oracles.random_images(1, 3 * LARGEST, classifier)) > 0).all()
    assert max(seen) == LARGEST


# The first layer and the ball


def _greatest(w: np.ndarray, room: np.ndarray, eps: float, norm: Norm) -> float:
    """max <w, t>, 0 <= t <= room, |t|_p <= eps, for w > 0, by a solver."""
    if norm is Norm.LINF:
        return float(w @ np.minimum(room, eps))
    if norm is Norm.L1:
        return -float(linprog(-w, np.ones((1, len(w))), [eps], bounds=[(0, r) for r in room]).fun)
    if np.linalg.norm(room) <= eps:
        return float(w @ room)
    tau = brentq(lambda tau: np.linalg.norm(np.minimum(room, tau * w)) - eps, 0, 1e6, xtol=1e-15, rtol=1e-14)
    return float(w @ np.minimum(room, tau * w))


@pytest.mark.parametrize("norm", BALLS)
@pytest.mark.parametrize("eps", [0.0, 1e-3, 0.1, 0.6, 5.0])
def test_the_largest_value_over_ball_and_box_is_exact(norm: Norm, eps: float) -> None:
    generator = np.random.default_rng(5)
    w = generator.normal(size=(30, 7)) * 10 ** generator.uniform(-1, 1, (30, 7))
    x = np.clip(generator.uniform(-0.3, 1.3, (30, 7)), 0, 1)
    weight, point = torch.from_numpy(w), torch.from_numpy(x)
    found = largest_change(weight, point, 1 - point, torch.full((30,), eps, dtype=F64), norm).numpy()
    exact = [
        _greatest(abs(row), np.where(row > 0, 1 - point, point), eps, norm) for row, point in zip(w, x, strict=True)
    ]
    assert np.allclose(found, exact, rtol=1e-9, atol=1e-12)
    assert (found >= np.array(exact) * (1 - 1e-11) - 1e-13).all()


@given(seed=st.integers(0, 10**6), scale=st.floats(-160, 140))
@settings(max_examples=40, deadline=None)
def test_the_largest_value_is_above_every_point_of_the_ball_at_any_scale(seed: int, scale: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    w = torch.randn(4, 20, generator=generator, dtype=F64) * 10**scale
    w[0, :10] = 0
    x = candidates(4, (1, 4, 5)).double().flatten(1)
    eps = torch.rand(4, generator=generator, dtype=F64)
    v = torch.randn(50, 4, 20, generator=generator, dtype=F64)
    for norm in BALLS:
        bound = largest_change(w, x, 1 - x, eps, norm)
        inside = norm.project(v.flatten(0, 1), eps.repeat(50)).view(v.shape)
        inside = (x + inside).clamp(0, 1) - x
        assert ((inside * w).sum(-1) <= bound * (1 + 1e-12)).all()


@pytest.mark.parametrize("norm", [Norm.L1, Norm.L2])
def test_a_first_convolution_is_bounded_exactly(norm: Norm) -> None:
    classifier = small("branches")
    graph, images = trace(classifier), images_for(classifier, 3)
    x = images.pixels.double()
    eps = torch.tensor([0.05, 0.3, 1.0], dtype=F64)
    (k,) = [k for k, node in enumerate(graph.nodes) if node.name.endswith("left")]
    interval = propagated(graph, InputBall(norm, x, eps))[k].interval
    centre = evaluated(graph, x)[k].flatten(1)
    one = torch.eye(x[0].numel(), dtype=F64).view(-1, *SHAPE)
    rows = (evaluated(graph, one)[k] - evaluated(graph, torch.zeros_like(one[:1]))[k]).flatten(1).T
    room = x.flatten(1)[:, None]
    rise, fall = (largest_change(sign * rows, room, 1 - room, eps[:, None], norm) for sign in (1, -1))
    assert torch.allclose(interval.upper.flatten(1), centre + rise, atol=1e-4)
    assert torch.allclose(interval.lower.flatten(1), centre - fall, atol=1e-4)


# Maxima


@given(
    seed=st.integers(0, 10**6),
    floor=st.booleans(),
    side=st.integers(1, 3),
    width=st.sampled_from([0.0, 1e-12, 0.3, 3.0]),
)
@settings(max_examples=60, deadline=None)
def test_the_lines_enclose_a_maximum(seed: int, floor: bool, side: int, width: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    op = Max(Windows((side, side), (side, side), (0, 0), (1, 1), (side, side)), floor)
    centre = torch.randn(8, 2, side, side, generator=generator, dtype=F64)
    half = width * torch.rand(centre.shape, generator=generator, dtype=F64)
    interval = Interval(centre - half, centre + half)
    known = relaxed(op, interval, Precision(torch.float32, F64, 5))
    assert known.lines is not None
    share = torch.rand(200, *centre.shape, generator=generator, dtype=F64)
    # Ends of the intervals, and random points.
    share[:100] = share[:100].round()
    x = interval.lower + share * 2 * half
    exact = op.apply(x.flatten(0, 1)).view(200, 8, 2, 1, 1)
    members = op.members(x.flatten(0, 1)).unflatten(1, (200, 8))
    above = (known.lines.upper[:, :, 0] * members.movedim(1, 0)).sum(1) + known.above
    below = (known.lines.lower[:, :, 0] * members.movedim(1, 0)).sum(1) + known.below
    assert (exact <= above).all()
    assert (exact >= below).all()
    # Any slope does where one is said to be free.
    lower = torch.where(known.lines.free, torch.rand(known.lines.lower.shape, generator=generator), known.lines.lower)
    assert (exact >= (lower[:, :, 0] * members.movedim(1, 0)).sum(1) + known.below).all()
    # The level is one that an entry can have: the line above is never above all of them by more than the widths.
    assert (above - exact <= 2 * half.sum((2, 3), keepdim=True) + (1e-9 if not floor else 1e-9 + exact)).all()


def test_the_line_above_a_relu_is_its_chord() -> None:
    op = Max(Windows((1, 1), (1, 1), (0, 0), (1, 1), (1, 4)), floor=True)
    lower, upper = (torch.tensor(v, dtype=F64).view(1, 1, 1, 4) for v in ([-1, -3, 1, -2.0], [3, 1, 2, -1.0]))
    known = relaxed(op, Interval(lower, upper), Precision(torch.float32, F64, 5))
    assert known.lines is not None
    assert torch.allclose(known.lines.upper.flatten(), torch.tensor([0.75, 0.25, 1.0, 0.0], dtype=F64))
    assert torch.allclose(known.above.flatten(), torch.tensor([0.75, 0.75, 0.0, 0.0], dtype=F64))
    assert known.lines.lower.flatten().tolist() == [1, 0, 1, 0]


# Rounding


def _cancelling(dtype: torch.dtype) -> tuple[Classifier, Tensor]:
    """Sums of thousands of terms that nearly cancel: float32 is wrong in digits that decide."""
    torch.manual_seed(0)
    first, last = nn.Linear(4096, 200), nn.Linear(200, 50)
    layers = nn.Sequential(nn.Flatten(), first, nn.ReLU(), last)
    with torch.no_grad():
        for layer in (first, last):
            layer.weight.normal_()
            layer.bias.copy_(-0.5 * layer.weight.sum(1))
    return make_classifier("cancelling", layers, (1, 64, 64)).to("cpu", dtype), candidates(20, (1, 64, 64))


def test_float32_stays_within_the_padded_bounds_and_not_within_those_of_real_numbers() -> None:
    classifier, pixels = _cancelling(torch.float32)
    graph = trace(classifier)
    computed = classifier.predict(pixels).double()
    point = InputBall(Norm.LINF, pixels.double(), torch.zeros(len(pixels), dtype=F64))

    def within(graph: Graph) -> Tensor:
        interval = propagated(graph, point)[-1].interval
        lower, upper = (end.flatten(1) for end in (interval.lower, interval.upper))
        exact = evaluated(graph, pixels)[-1].flatten(1)
        assert ((exact >= lower) & (exact <= upper)).all()
        return (computed >= lower) & (computed <= upper)

    assert within(graph).all()
    assert not within(Graph(graph.nodes, F64, F64)).any(1).all()


@pytest.mark.parametrize("network", NETWORKS)
def test_every_layer_in_float32_stays_within_its_allowance(network: str) -> None:
    """Point by point: with intervals of no width all that is left is the allowance."""
    classifier = small(network)
    graph, images = trace(classifier), images_for(classifier, 10)
    ball = InputBall(Norm.LINF, images.pixels.double(), torch.zeros(10, dtype=F64))
    interval = propagated(graph, ball)[-1].interval
    computed = classifier.predict(images.pixels).double()[..., None, None]
    assert (computed >= interval.lower).all()
    assert (computed <= interval.upper).all()
    # A bound, but no useless one.
    assert (interval.upper - interval.lower).max() < 1e-2 * computed.abs().max()


def test_coefficients_in_float32_cost_little_and_stay_below_those_in_float64() -> None:
    classifier = small("branches")
    graph, images = trace(classifier), images_for(classifier, 6)
    assert graph.coefficients is torch.float32
    ball = InputBall(Norm.LINF, images.pixels.double(), torch.full((6,), 0.05, dtype=F64))
    short, long = (
        linear_margins(g, propagated(g, ball, refined(g, ball, 10**9)), ball, images.labels)
        for g in (graph, Graph(graph.nodes, graph.dtype, F64))
    )
    assert (short <= long).all()
    assert (long - short).max() < 0.01


def test_coefficients_in_float32_are_charged_for_their_rounding() -> None:
    """An affine network in float64, whose margins are known: only the rounding of the coefficients is left."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(1024, 400), nn.Linear(400, 30))
    classifier = make_classifier("deep", network, (1, 32, 32)).to("cpu", F64)
    graph, images = trace(classifier), images_for(classifier, 30)
    point = InputBall(Norm.LINF, images.pixels, torch.zeros(30, dtype=F64))
    logits = classifier.predict(images.pixels)
    others = torch.ones_like(logits, dtype=torch.bool).scatter(1, images.labels[:, None], False)
    exact = (logits.gather(1, images.labels[:, None]) - logits)[others].view(30, -1)
    short = Graph(graph.nodes, F64, torch.float32)
    least = interval_margins(short, propagated(short, point), point, images.labels)
    assert (least <= exact).all()
    assert (exact - least).max() < 1e-2


# Graphs


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_the_graph_of_every_architecture_answers_as_the_network(name: str) -> None:
    torch.manual_seed(2)
    architecture = ARCHITECTURES[name]
    classifier = make_classifier(name, architecture.network(), architecture.input_shape)
    weights = [m.weight for m in classifier.module.modules() if isinstance(m, nn.Conv2d)]
    assert any(w.is_contiguous(memory_format=torch.channels_last) for w in weights)
    pixels = candidates(2, architecture.input_shape)
    logits = evaluated(trace(classifier), pixels)[-1].flatten(1)
    assert torch.allclose(logits.float(), classifier.predict(pixels), atol=1e-5)


@pytest.mark.parametrize("network", NETWORKS)
def test_the_graph_of_a_small_network_answers_as_the_network(network: str) -> None:
    classifier = small(network, F64)
    pixels = images_for(classifier, 5).pixels
    values = evaluated(trace(classifier), pixels)
    assert torch.allclose(values[-1].flatten(1), classifier.predict(pixels), atol=1e-9)


class Odd(nn.Module):
    one: Tensor

    def __init__(self, what: str) -> None:
        super().__init__()
        self.what = what
        self.linear = nn.Linear(128, 4)
        self.register_buffer("one", torch.ones(1))

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.linear(x.flatten(1))
        if self.what == "branch":
            return y if y.sum() > 0 else -y
        if self.what == "product":
            return y * y
        if self.what == "alpha":
            return torch.add(y, y, alpha=2)
        if self.what == "softmax":
            return y.softmax(1)
        return 1 / (y + self.one)


@pytest.mark.parametrize(
    ("network", "named"),
    [
        (nn.Sequential(nn.Flatten(), nn.Linear(128, 4), nn.Tanh()), "type Tanh at 'network.2'"),
        (nn.Sequential(nn.Conv2d(2, 3, 3, padding=1, padding_mode="circular"), nn.Flatten(), nn.Linear(192, 4)), "0'"),
        (nn.Sequential(nn.MaxPool2d(3, ceil_mode=True), nn.Flatten(), nn.Linear(18, 4)), "MaxPool2d"),
        (Odd("branch"), "control flow"),
        (Odd("product"), "at 'mul'"),
        (Odd("alpha"), "at 'add'"),
        (Odd("softmax"), "softmax"),
        (Odd("division"), "at 'truediv"),
    ],
)
def test_what_bounds_cannot_pass_through_is_named(network: nn.Module, named: str) -> None:
    classifier = make_classifier("odd", network, SHAPE)
    images = images_for(classifier, 2)
    with pytest.raises(UnsupportedError, match="expected") as error:
        proven("ibp", Norm.LINF, classifier, images)
    assert named in str(error.value)


def test_a_network_that_does_more_than_its_layers_is_refused() -> None:
    classifier = small("dense")
    handle = list(classifier.module.modules())[-1].register_forward_hook(lambda _, inputs, output: 1.001 * output)
    with pytest.raises(UnsupportedError, match="does what its layers say"):
        trace(classifier)
    handle.remove()
    assert trace(classifier).classes == 4


# The search


@given(
    seed=st.integers(0, 10**6),
    power=st.floats(1, 6),
    factor=st.floats(-4, 4),
    tolerance=st.sampled_from([0.1, 0.01, 1e-4]),
)
@settings(max_examples=25, deadline=None)
def test_the_search_ends_within_its_tolerance(seed: int, power: float, factor: float, tolerance: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    truth = 10 ** (-4 * torch.rand(9, generator=generator, dtype=F64))
    calls = torch.zeros(9)

    def margin(rows: Tensor, radius: Tensor) -> Tensor:
        calls[rows] += 1
        share = radius / truth[rows]
        return 1 - 0.3 * share - 0.7 * share**power

    clean, reach = torch.ones(9, dtype=F64), torch.full((9,), 10.0, dtype=F64)
    found = largest_radius(margin, clean, truth * 10**factor, reach, tolerance)
    assert (found <= truth).all()
    assert (found >= truth * (1 - 1.01 * tolerance)).all()
    assert calls.max() <= 20


def test_the_search_stops_where_there_is_nothing_to_find() -> None:
    clean = torch.tensor([-1.0, math.nan, 1.0, 1.0, 1.0], dtype=F64)
    answers = torch.tensor([1.0, 1.0, -1.0, math.nan, 1.0], dtype=F64)
    start, reach = torch.full((5,), 0.01, dtype=F64), torch.full((5,), 2.0, dtype=F64)
    found = largest_radius(lambda rows, radius: answers[rows], clean, start, reach, 0.01)
    assert found.tolist() == [0, 0, 0, 0, 2]


@pytest.mark.parametrize("broken", [math.nan, math.inf])
@pytest.mark.parametrize("name", ["ibp", "crown", "lipschitz"])
def test_a_broken_network_is_not_certified(name: str, broken: float) -> None:
    for network in ("dense", "pooled"):
        classifier = small(network)
        images = images_for(classifier, 5)
        with torch.no_grad():
            weight = next(p for n, p in classifier.module.named_parameters() if n.endswith("weight"))
            weight[(0,) * weight.dim()] = broken
        assert (proven(name, Norm.L2, classifier, images) == 0).all()


def test_a_network_that_says_one_thing_everywhere_is_certified_to_the_end_of_the_box() -> None:
    layer = nn.Linear(128, 3)
    with torch.no_grad():
        layer.weight.zero_()
        layer.bias.copy_(torch.tensor([0.0, 1.0, 0.0]))
    classifier = make_classifier("constant", nn.Sequential(nn.Flatten(), layer), SHAPE)
    images = images_for(classifier, 4)
    for name in ("ibp", "crown", "lipschitz"):
        reach = Norm.L2.size(torch.maximum(images.pixels, 1 - images.pixels).double())
        assert torch.allclose(proven(name, Norm.L2, classifier, images), reach)


def test_crown_is_a_settings_class() -> None:
    assert CROWN(norm=Norm.L2).affordable == 10**8
    assert "PROOF" in (CROWN.__doc__ or "")
