"""Measurements of a model near each image and over a set of them, one file a method."""

from __future__ import annotations

from typing import TYPE_CHECKING

from robusteval.core.registry import Registry

if TYPE_CHECKING:
    from robusteval.metrics.base import Metric

METRICS: Registry[Metric] = Registry(
    "metrics",
    "robusteval.metrics.base:Metric",
    {
        "noise": "robusteval.metrics.noise:NoiseRobustness",
        "analytic-moments": "robusteval.metrics.analytic_moments:AnalyticMoments",
        "smoothed-prediction": "robusteval.metrics.smoothed_prediction:SmoothedPrediction",
        "jacobian-spectrum": "robusteval.metrics.spectrum:JacobianSpectrum",
        "alignment": "robusteval.metrics.alignment:Alignment",
        "operator-norm": "robusteval.metrics.operator_norm:OperatorNorm",
        "linearity": "robusteval.metrics.linearity:Linearity",
        "activation-patterns": "robusteval.metrics.activation_patterns:ActivationPatterns",
        "regularity": "robusteval.metrics.regularity:Regularity",
        "prediction-distance": "robusteval.metrics.prediction_distance:PredictionDistance",
        "covariance": "robusteval.metrics.covariance:Covariance",
        "softmax-line": "robusteval.metrics.softmax_line:SoftmaxLine",
        "kernels": "robusteval.metrics.kernels:Kernels",
        "activation-maximization": "robusteval.metrics.activation_maximization:ActivationMaximization",
        "targeted-grid": "robusteval.metrics.targeted_grid:TargetedGrid",
        "deception": "robusteval.metrics.deception:Deception",
        "gradient-masking": "robusteval.metrics.gradient_masking:GradientMasking",
    },
)
"""Name -> where the class is. A new method is one file and one line here."""
