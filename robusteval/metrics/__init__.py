"""Measurements of a model near each image, one file a method."""

from __future__ import annotations

from robusteval.metrics.activation_maximization import ActivationMaximization
from robusteval.metrics.base import Metric
from robusteval.metrics.deception import Deception
from robusteval.metrics.masking import GradientMasking
from robusteval.metrics.noise import GaussianNoise
from robusteval.metrics.smoothed_prediction import SmoothedPrediction
from robusteval.metrics.spectrum import JacobianSpectrum
from robusteval.metrics.targeted_grid import TargetedGrid

_ALL: tuple[type[Metric], ...] = (
    GaussianNoise,
    JacobianSpectrum,
    GradientMasking,
    SmoothedPrediction,
    ActivationMaximization,
    TargetedGrid,
    Deception,
)
METRICS: dict[str, type[Metric]] = {metric.name: metric for metric in _ALL}
