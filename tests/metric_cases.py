"""What the tests of metrics share: a cheap setting of each, small networks, and how to run one."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from robusteval.core.images import Images
from robusteval.core.norms import Norm
from robusteval.core.streams import Streams
from robusteval.metrics.activation_maximization import ActivationMaximization
from robusteval.metrics.activation_patterns import ActivationPatterns
from robusteval.metrics.alignment import Alignment
from robusteval.metrics.analytic_moments import AnalyticMoments
from robusteval.metrics.base import ImageMetric, Measurement, Metric, Observation, SetMetric
from robusteval.metrics.covariance import Covariance
from robusteval.metrics.deception import Deception
from robusteval.metrics.gradient_masking import GradientMasking
from robusteval.metrics.kernels import Kernels
from robusteval.metrics.linearity import Linearity
from robusteval.metrics.noise import NoiseRobustness
from robusteval.metrics.operator_norm import OperatorNorm
from robusteval.metrics.prediction_distance import PredictionDistance
from robusteval.metrics.regularity import Regularity
from robusteval.metrics.smoothed_prediction import SmoothedPrediction
from robusteval.metrics.softmax_line import SoftmaxLine
from robusteval.metrics.spectrum import JacobianSpectrum
from robusteval.metrics.targeted_grid import TargetedGrid
from robusteval.models.classifier import Classifier
from robusteval.models.making import make_classifier

SHAPE = (2, 4, 4)
F64 = torch.float64

SMALL: dict[str, Metric] = {
    "noise": NoiseRobustness(sigmas=(0.0, 0.05, 0.2, 0.5), samples=4, early_stop=False),
    "analytic-moments": AnalyticMoments(sigmas=(0.0, 0.02), samples=40),
    "alignment": Alignment(ranks=5, witnesses="some-attack"),
    "jacobian-spectrum": JacobianSpectrum(ranks=5, witnesses="some-attack"),
    "operator-norm": OperatorNorm(starts=3),
    "linearity": Linearity(distances=(0.0, 0.5), samples=2, witnesses="some-attack"),
    "activation-patterns": ActivationPatterns(magnitudes=(0.0, 0.3), samples=2, witnesses="some-attack"),
    "regularity": Regularity(norm=Norm.L2, radii=(0.3, 0.6), samples=3, steps=2),
    "smoothed-prediction": SmoothedPrediction(sigma=0.01, n=50, alpha=0.1),
    "gradient-masking": GradientMasking(steps=5, restarts=2, queries=10, samples=3, repeats=2),
    "prediction-distance": PredictionDistance(norm=Norm.L2, steps=20),
    "covariance": Covariance(witnesses="some-attack"),
    "softmax-line": SoftmaxLine(witnesses="some-attack", shown=3, points=5),
    "kernels": Kernels(shown=2, side=16),
    "activation-maximization": ActivationMaximization(steps=20, learning_rate=0.1),
    "targeted-grid": TargetedGrid(norm=Norm.LINF, budget=0.2, steps=5),
    "deception": Deception(witnesses="some-attack"),
}
"""The one table of metrics: a cheap setting of each, in which it emits every quantity that it declares."""
ACTIVATIONS: dict[str, type[nn.Module]] = {"activation-patterns": nn.ReLU, "analytic-moments": nn.ReLU}
"""What a metric needs of a small network, where that is not smooth."""


def case_of(name: str) -> Metric:
    """The entry of a metric; AssertionError says what to add where there is none."""
    assert name in SMALL, (
        f"expected an entry for '{name}' in SMALL of tests/metric_cases.py: the metric with cheap settings, in which "
        "it emits every quantity that it declares"
    )
    return SMALL[name]


def images_of(pixels: Tensor) -> Images:
    ids = tuple(f"{i:04d}" for i in range(len(pixels)))
    return Images(ids, pixels, torch.zeros(len(pixels), dtype=torch.int64), source="test")


def random_pixels(n: int) -> Tensor:
    return torch.rand(n, *SHAPE, generator=torch.Generator().manual_seed(7)).double()


def small_net(width: int = 8, dtype: torch.dtype = F64, batch_size: int = 64, metric: str = "") -> Classifier:
    torch.manual_seed(5)
    bend = ACTIVATIONS.get(metric, nn.Tanh)
    network = nn.Sequential(nn.Conv2d(2, 3, 3), bend(), nn.Flatten(), nn.Linear(12, width), bend(), nn.Linear(width, 3))
    classifier = make_classifier("small", network, SHAPE, mean=(0.5, 0.4), std=(0.2, 0.3))
    return replace(classifier.to("cpu", dtype), batch_size=batch_size)


def linear_net(w: Tensor, b: float) -> Classifier:
    """Class 1 where <w, x> + b > 0."""
    layer = nn.Linear(len(w), 2)
    with torch.no_grad():
        layer.weight.copy_(torch.stack([torch.zeros_like(w), w]))
        layer.bias.copy_(torch.tensor([0.0, b]))
    return make_classifier("linear", nn.Sequential(nn.Flatten(), layer), SHAPE).to("cpu", F64)


def measure(
    metric: ImageMetric, classifier: Classifier, images: Images, witnesses: Tensor | None = None
) -> list[Measurement]:
    streams = Streams.for_images(1, metric.label, images.ids, images.pixels)
    classifier = classifier if len(classifier.rows) == len(images) else classifier.metered(len(images))
    return metric.measure(classifier, images, witnesses, streams)


def observe(metric: SetMetric, classifier: Classifier, images: Images, witnesses: Tensor | None = None) -> Observation:
    streams = Streams.for_set(1, metric.label, images.pixels)
    classifier = classifier if len(classifier.rows) == len(images) else classifier.metered(len(images))
    return metric.observe(classifier, images, witnesses, streams, lambda done, total: None)


def curve(found: list[Measurement], quantity: str) -> Tensor:
    """(values of `at`, N)"""
    return torch.stack([m.values for m in found if m.quantity == quantity])
