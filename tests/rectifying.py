"""What the tests of analytic moments share: networks that begin with one ReLU layer, and integrals over a Gaussian."""

from __future__ import annotations

import math

import torch
from scipy.integrate import quad
from torch import nn

from metric_cases import F64, SHAPE
from robusteval.models.classifier import Classifier
from robusteval.models.making import make_classifier

MEAN, STD = (0.4, 0.6), (0.5, 0.25)


def classifier_of(network: nn.Module, dtype: torch.dtype = F64) -> Classifier:
    return make_classifier("net", network.float().eval(), SHAPE, mean=MEAN, std=STD).to("cpu", dtype)


def two_layers(hidden: int = 12) -> nn.Module:
    torch.manual_seed(3)
    return nn.Sequential(nn.Flatten(), nn.Linear(32, hidden), nn.ReLU(), nn.Linear(hidden, 4))


def quadrature(mean: float, deviation: float, power: int) -> float:
    """E max(z, 0)^power of z ~ N(mean, deviation^2)."""
    low, high = max(0.0, mean - 12 * deviation), max(0.0, mean + 12 * deviation)
    value, _ = quad(lambda z: z**power * density(z, mean, deviation), low, high, epsabs=1e-13, epsrel=1e-12, limit=200)
    return float(value)


def density(z: float, mean: float, deviation: float) -> float:
    return math.exp(-(((z - mean) / deviation) ** 2) / 2) / (math.sqrt(2 * math.pi) * deviation)
