"""What the tests of Jacobians and their singular values share: maps whose matrices are known."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from metric_cases import F64, SHAPE
from robusteval.core.streams import Streams
from robusteval.models.classifier import Classifier
from robusteval.models.making import make_classifier

D = 32


def streams(pixels: Tensor, seed: int = 0) -> Streams:
    return Streams.for_images(seed, "test", [str(i) for i in range(len(pixels))], pixels)


def orthonormal(rows: int, columns: int) -> Tensor:
    q: Tensor = torch.linalg.qr(torch.randn(rows, columns, dtype=F64)).Q
    return q


def known(values: list[float], classes: int = 3) -> tuple[Classifier, Tensor]:
    """A network whose features are U S V^T x, and V^T, (k, D): its right singular vectors as rows."""
    torch.manual_seed(1)
    k = len(values)
    v = orthonormal(D, k)
    features = nn.Linear(D, k, bias=False, dtype=F64)
    with torch.no_grad():
        features.weight.copy_(orthonormal(k, k) @ torch.diag(torch.tensor(values, dtype=F64)) @ v.T)
    network = nn.Sequential(nn.Flatten(), features, nn.Linear(k, classes, dtype=F64))
    plain = make_classifier("known", nn.Sequential(nn.Flatten(), nn.Linear(D, classes)), SHAPE)
    return Classifier("known", network.requires_grad_(False), classes, SHAPE, plain.fingerprint, dtype=F64), v.T


def matrix_map(w: Tensor) -> Any:
    return lambda pixels: pixels.flatten(1) @ w.T
