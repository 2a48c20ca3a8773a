"""Measurements of a model near each image and over a set of them, one file a method."""

from __future__ import annotations

from robusteval.metrics.activation_maximization import ActivationMaximization
from robusteval.metrics.activation_patterns import ActivationPatterns
from robusteval.metrics.alignment import Alignment
from robusteval.metrics.analytic_moments import AnalyticMoments
from robusteval.metrics.base import Metric
from robusteval.metrics.covariance import Covariance
from robusteval.metrics.deception import Deception
from robusteval.metrics.kernels import Kernels
from robusteval.metrics.linearity import Linearity
from robusteval.metrics.masking import GradientMasking
from robusteval.metrics.noise import NoiseRobustness
from robusteval.metrics.operator_norm import OperatorNorm
from robusteval.metrics.regularity import Regularity
from robusteval.metrics.smoothed_prediction import SmoothedPrediction
from robusteval.metrics.softmax_line import SoftmaxLine
from robusteval.metrics.spectrum import JacobianSpectrum
from robusteval.metrics.targeted_grid import TargetedGrid

_ALL: tuple[type[Metric], ...] = (
    NoiseRobustness,
    AnalyticMoments,
    SmoothedPrediction,
    JacobianSpectrum,
    Alignment,
    OperatorNorm,
    Linearity,
    ActivationPatterns,
    Regularity,
    Covariance,
    SoftmaxLine,
    Kernels,
    ActivationMaximization,
    TargetedGrid,
    Deception,
    GradientMasking,
)
METRICS: dict[str, type[Metric]] = {metric.name: metric for metric in _ALL}
