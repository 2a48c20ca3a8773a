"""Measurements of a model near each image, one file a method."""

from __future__ import annotations

from robusteval.metrics.base import Metric
from robusteval.metrics.covariance import Covariance
from robusteval.metrics.kernels import Kernels
from robusteval.metrics.masking import GradientMasking
from robusteval.metrics.noise import GaussianNoise
from robusteval.metrics.smoothed_prediction import SmoothedPrediction
from robusteval.metrics.softmax_line import SoftmaxLine
from robusteval.metrics.spectrum import JacobianSpectrum

_ALL: tuple[type[Metric], ...] = (
    GaussianNoise,
    JacobianSpectrum,
    GradientMasking,
    SmoothedPrediction,
    Covariance,
    SoftmaxLine,
    Kernels,
)
METRICS: dict[str, type[Metric]] = {metric.name: metric for metric in _ALL}
