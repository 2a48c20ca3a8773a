"""Activation patterns against nets whose flips are known by hand, and against probabilities in closed form."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from scipy.stats import binom
from torch import Tensor, nn
from torch.nn import functional

from metric_cases import F64, curve, images_of, measure, random_pixels, small_net
from robusteval.analysis.results import Results
from robusteval.core.errors import UnsupportedError
from robusteval.metrics.activation_patterns import ActivationPatterns
from robusteval.metrics.activations import activation_pattern
from robusteval.metrics.base import Measurement
from robusteval.models.checkpoints import open_checkpoint
from robusteval.models.classifier import Classifier
from robusteval.models.making import make_classifier
from robusteval.reports.chapters.activation_patterns import CHAPTER
from run_fixture import build_paper_run

SHAPE = (1, 2, 2)


class By(nn.Module):
    """A function as a layer."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


def layer(weight: list[list[float]], bias: list[float]) -> nn.Linear:
    made = nn.Linear(len(weight[0]), len(weight))
    with torch.no_grad():
        made.weight.copy_(torch.tensor(weight))
        made.bias.copy_(torch.tensor(bias))
    return made


def by_hand(relu: Callable[[], nn.Module] = nn.ReLU) -> Classifier:
    """h = (x0 - 0.5, x1 - 0.3, 0.9 - x2), g = (relu h0 - 0.05, 0.2 - relu h2)."""
    network = nn.Sequential(
        nn.Flatten(),
        layer([[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, -1, 0]], [-0.5, -0.3, 0.9]),
        relu(),
        layer([[1, 0, 0], [0, 0, -1]], [-0.05, 0.2]),
        relu(),
        nn.Linear(2, 2),
    )
    return make_classifier("by hand", network, SHAPE).to("cpu", F64)


HERE = torch.tensor([0.6, 0.2, 0.5, 0.0], dtype=F64).view(1, *SHAPE)
PATTERN = [1, 0, 1, 1, 0]


def patterns(
    classifier: Classifier, pixels: Tensor, witnesses: Tensor | None = None, **settings: object
) -> list[Measurement]:
    metric = ActivationPatterns.model_validate({"witnesses": "some-attack"} | settings)
    return measure(metric, classifier, images_of(pixels), witnesses)


def test_a_pattern_by_hand() -> None:
    found = activation_pattern(by_hand(), torch.cat([HERE, torch.zeros_like(HERE)]))
    assert found.tolist() == [PATTERN, [0, 0, 1, 0, 0]]


def test_flips_towards_a_witness_by_hand() -> None:
    """Each of the first two pixels moves by s = eps sqrt(4 / 3) / sqrt(2). g0 flips at 0.05, h0 and h1 at 0.1."""
    witness = HERE + torch.tensor([-0.3, 0.3, 0, 0], dtype=F64).view(1, *SHAPE)
    per_eps = math.sqrt(2 / 3)
    shifts = (0.0, 0.049, 0.051, 0.099, 0.101, 0.3)
    found = patterns(by_hand(), HERE, witness, magnitudes=[s / per_eps for s in shifts])
    assert curve(found, "unchanged_adversarial")[:, 0].tolist() == pytest.approx([1.0, 1.0, 0.8, 0.8, 0.4, 0.4])
    assert float(curve(found, "witness_magnitude")[0, 0]) == pytest.approx(0.3 / per_eps)


def bits(margin: float) -> tuple[Classifier, Tensor]:
    """A ReLU for each of 4 pixels with its kink at 0.5, and 500 images that lie `margin` above it."""
    network = nn.Sequential(nn.Flatten(), layer(torch.eye(4).tolist(), [-0.5] * 4), nn.ReLU(), nn.Linear(4, 2))
    pixels = torch.full((500, *SHAPE), 0.5 + margin, dtype=F64)
    return make_classifier("bits", network, SHAPE).to("cpu", F64), pixels


def test_noise_flips_as_often_as_it_must() -> None:
    """Uniform in [-eps, eps] a ReLU at a margin of c flips with probability (eps - c) / 2 eps; at a uniform point of
    [0, 1], for eps up to 1/2, with probability eps / 2. The 2,000 bits are independent."""
    classifier, pixels = bits(0.1)
    eps = (0.0, 0.09, 0.2, 0.5)
    found = patterns(classifier, pixels, magnitudes=eps, samples=1)
    for quantity, expected in (
        ("unchanged_at_data", [1.0, 1.0, 0.75, 0.6]),
        ("unchanged_at_noise", [1.0, 0.955, 0.9, 0.75]),
    ):
        for share, p in zip(curve(found, quantity).mean(1), expected, strict=True):
            assert binom.ppf(1e-6, 2000, p) <= round(2000 * float(share)) <= binom.isf(1e-6, 2000, p), quantity
    averaged = curve(patterns(classifier, pixels[:20], magnitudes=eps, samples=50), "unchanged_at_data")
    assert averaged[3].min() > 0.4
    assert averaged[3].max() < 0.8
    assert averaged[3].std() > 0


def test_without_noise_nothing_changes() -> None:
    x = random_pixels(5)
    found = patterns(small_net(metric="activation-patterns"), x, x.flip(0), magnitudes=[0.0])
    for quantity in ("unchanged_at_data", "unchanged_at_noise"):
        assert (curve(found, quantity) == 1).all()
    assert (curve(found, "unchanged_adversarial")[0, [0, 1, 3, 4]] == 1).all()


SAME: dict[str, Callable[[], nn.Module]] = {
    "module": nn.ReLU,
    "module in place": lambda: nn.ReLU(inplace=True),
    "function": lambda: By(functional.relu),
    "function in place": lambda: By(lambda x: functional.relu(x, inplace=True)),
    "torch": lambda: By(torch.relu),
    "method in place": lambda: By(lambda x: x.relu_()),
    "clamp": lambda: By(lambda x: x.clamp(min=0)),
    "clamp in place": lambda: By(lambda x: x.clamp_(min=0)),
    "clamp_min": lambda: By(lambda x: torch.clamp_min(x, 0)),
    "threshold": lambda: nn.Threshold(0.0, 0.0),
}
KINDS: dict[str, Callable[[], nn.Module]] = {
    "leaky": nn.LeakyReLU,
    "leaky in place": lambda: nn.LeakyReLU(0.2, inplace=True),
    "prelu": nn.PReLU,
    "rrelu": nn.RReLU,
    "relu6": nn.ReLU6,
    "hardtanh": lambda: nn.Hardtanh(0.0, 100.0),
}


@pytest.mark.parametrize("relu", SAME)
def test_every_way_to_write_a_relu_gives_the_same(relu: str) -> None:
    x = torch.rand(20, *SHAPE, generator=torch.Generator().manual_seed(1)).double()
    base, other = (patterns(by_hand(made), x, x.flip(0), samples=1) for made in (nn.ReLU, SAME[relu]))
    for ours, theirs in zip(base, other, strict=True):
        assert torch.equal(ours.values, theirs.values)
    assert float(curve(base, "unchanged_at_data")[-1].mean()) < 0.95


@pytest.mark.parametrize("relu", KINDS)
def test_other_relus_are_seen(relu: str) -> None:
    """They give the next layer something else, so only the first layer's pattern is that of ReLU."""
    found = activation_pattern(by_hand(KINDS[relu]), HERE)
    assert found.shape == (1, 5)
    assert found[0, :3].tolist() == PATTERN[:3]


def test_a_relu6_has_three_pieces_and_a_kink_belongs_below() -> None:
    network = nn.Sequential(nn.Flatten(), layer(torch.eye(4).tolist(), [0.0] * 4), nn.ReLU6(), nn.Linear(4, 2))
    classifier = make_classifier("relu6", network, SHAPE)
    pixels = torch.tensor([-1.0, 0.0, 6.0, 7.0]).view(1, *SHAPE)
    assert activation_pattern(classifier, pixels).tolist() == [[0, 0, 1, 2]]


class Written(nn.Module):
    """By hand, with the first ReLU a function and the second a method in place."""

    def __init__(self) -> None:
        super().__init__()
        network = by_hand().module.network
        assert isinstance(network, nn.Sequential)
        self.first, self.second, self.last = (network[i].float() for i in (1, 3, 5))

    def forward(self, x: Tensor) -> Tensor:
        h = functional.relu(self.first(x.flatten(1)))
        logits: Tensor = self.last(self.second(h).relu_())
        return logits


@pytest.mark.parametrize("kind", ["traced", "exported"])
@pytest.mark.filterwarnings("ignore")
def test_loaded_programs_are_seen(kind: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    x, written = torch.rand(8, *SHAPE), Written().eval().requires_grad_(False)
    path = tmp_path / ("net.ts" if kind == "traced" else "net.pt2")
    if kind == "traced":
        torch.jit.trace(written, (x,)).save(str(path))
    else:
        program = torch.export.export(written, (x,), dynamic_shapes=({0: torch.export.Dim("batch")},))
        torch.export.save(program, path)
    loaded = open_checkpoint(path, input_shape=SHAPE, trusted=(path,))
    expected = activation_pattern(by_hand(), x.double())
    for _ in range(3):
        # TorchScript optimises a program after its first calls.
        assert torch.equal(activation_pattern(loaded, x), expected)


def test_a_network_without_relus_is_unsupported() -> None:
    """Nor is a network that only keeps its pixels in range."""
    for first in (nn.Tanh(), By(lambda x: x.clamp(0, 1)), nn.GELU()):
        network = nn.Sequential(first, nn.Flatten(), nn.Linear(4, 2))
        with pytest.raises(UnsupportedError, match=r"expected a network with ReLUs .*, got smooth"):
            patterns(make_classifier("smooth", network, SHAPE), HERE.float())


def test_relus_across_images_are_unsupported() -> None:
    network = nn.Sequential(By(lambda x: x.reshape(-1, 2).relu().reshape(len(x), 4)), nn.Linear(4, 2))
    with pytest.raises(UnsupportedError, match=r"batch of 1 in their first dimension.*\(2, 2\)"):
        patterns(make_classifier("strange", network, SHAPE), HERE.float())


def test_images_without_a_witness_have_no_adversarial_share() -> None:
    """The attack found none, or the image is misclassified and its own witness."""
    x = random_pixels(4)
    witnesses = x.flip(0)
    witnesses[1], witnesses[2] = torch.nan, x[2]
    found = patterns(small_net(metric="activation-patterns"), x, witnesses, magnitudes=[0.3])
    for quantity in ("unchanged_adversarial", "witness_magnitude"):
        values = curve(found, quantity)[0]
        assert values[[1, 2]].isnan().all()
        assert values[[0, 3]].isfinite().all()
    assert curve(found, "unchanged_at_data").isfinite().all()
    nothing = patterns(small_net(metric="activation-patterns"), x, torch.full_like(x, torch.nan), magnitudes=[0.3])
    assert curve(nothing, "unchanged_adversarial").isnan().all()
    without = patterns(small_net(metric="activation-patterns"), x, magnitudes=[0.3])
    assert {m.quantity for m in without} == {"unchanged_at_data", "unchanged_at_noise"}


def test_its_cost_is_what_it_says() -> None:
    classifier = small_net(metric="activation-patterns").metered(4)
    x = random_pixels(4)
    patterns(classifier, x, x.flip(0), magnitudes=[0.0, 0.1, 0.2], samples=2)
    assert torch.allclose(classifier.meter.forwards, torch.full((4,), 2.0 * (1 + 2 * 3) + 1 + 3, dtype=F64))
    assert (classifier.meter.backwards == 0).all()


def test_the_report_has_figure_5(tmp_path: Path) -> None:
    rows = [("activation-patterns", f"unchanged_at_{at}", 0.1, [0.5, 0.7]) for at in ("data", "noise")]
    left, right = CHAPTER.plots(Results(build_paper_run(tmp_path, "mine", [True, True], [], measurements=rows)))
    assert "OpNorm, figure 5 left" in left.title
    assert "OpNorm, figure 5 right" in right.title
    assert left.data["quantity"].tolist() == ["unchanged_at_data"]
    assert right.data["mean"].tolist() == pytest.approx([0.6])
