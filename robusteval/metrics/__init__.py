"""Measurements of a model near each image, one file a method."""

from __future__ import annotations

from robusteval.metrics.alignment import Alignment
from robusteval.metrics.base import Metric
from robusteval.metrics.masking import GradientMasking
from robusteval.metrics.noise import GaussianNoise
from robusteval.metrics.smoothed_prediction import SmoothedPrediction
from robusteval.metrics.spectrum import JacobianSpectrum

_ALL: tuple[type[Metric], ...] = (GaussianNoise, JacobianSpectrum, Alignment, GradientMasking, SmoothedPrediction)
METRICS: dict[str, type[Metric]] = {metric.name: metric for metric in _ALL}
