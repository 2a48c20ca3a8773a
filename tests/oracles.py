"""Classifiers whose exact minimum adversarial distances are known: affine ones in closed form with the box [0, 1]
active, and a two-layer ReLU network by enumeration of its activation patterns."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import brentq, linprog
from torch import nn

from robusteval.core.images import Images
from robusteval.core.norms import Norm
from robusteval.models.classifier import Classifier
from robusteval.models.making import make_classifier

Floats = NDArray[np.float64]


def affine(seed: int, shape: tuple[int, int, int] = (1, 8, 8), classes: int = 5) -> tuple[Classifier, Floats, Floats]:
    """An affine classifier with unequal weights, and its weights (K, D) and biases (K,) in float64.

    Columns differ in scale by a factor of ten, so that a mistake in the norm cannot hide; classes are permuted.
    """
    generator = torch.Generator().manual_seed(seed)
    size = math.prod(shape)
    linear = nn.Linear(size, classes)
    with torch.no_grad():
        scale = torch.logspace(-0.5, 0.5, size)[torch.randperm(size, generator=generator)]
        linear.weight.copy_(torch.randn(classes, size, generator=generator) * scale)
        # Centred, so that all classes occur in the middle of the box.
        linear.bias.copy_(-linear.weight.sum(1) / 2 + 0.1 * torch.randn(classes, generator=generator))
        order = torch.randperm(classes, generator=generator)
        linear.weight.copy_(linear.weight[order])
        linear.bias.copy_(linear.bias[order])
    weight = linear.weight.detach().double().numpy().copy()
    bias = linear.bias.detach().double().numpy().copy()
    return make_classifier("affine", nn.Sequential(nn.Flatten(), linear), shape), weight, bias


def random_images(seed: int, n: int, classifier: Classifier) -> Images:
    """n images, labelled as the classifier sees them; a third of their pixels lie on the walls of the box."""
    generator = torch.Generator().manual_seed(seed)
    pixels = torch.rand(n, *classifier.input_shape, generator=generator)
    walls = torch.rand(pixels.shape, generator=generator)
    pixels = torch.where(walls < 1 / 6, 0.0, torch.where(walls > 5 / 6, 1.0, pixels))
    return Images(tuple(f"i{k:03d}" for k in range(n)), pixels, classifier.predict(pixels).argmax(1))


def affine_distances(weight: Floats, bias: Floats, images: Images, norm: Norm) -> Floats:
    """The exact distance (N,) of each correctly classified image to another class, inside the box."""
    x = images.pixels.double().flatten(1).numpy()
    distances = np.full(len(x), np.inf)
    for i, label in enumerate(images.labels.tolist()):
        for other in range(len(weight)):
            if other != label:
                direction = weight[other] - weight[label]
                needed = -(direction @ x[i] + bias[other] - bias[label])
                distances[i] = min(distances[i], _reach(direction, needed, x[i], norm))
    return distances


def affine_distances_to(weight: Floats, bias: Floats, images: Images, norm: Norm, target: int) -> Floats:
    """The exact distance (N,) of each image, inside the box, to where the class `target` has the largest logit, in L1
    or Linf: a linear program each. Infinite where the box has no such place."""
    others = [j for j in range(len(weight)) if j != target]
    directions, offsets = weight[target] - weight[others], bias[target] - bias[others]
    size = weight.shape[1]
    zero, one = np.zeros((size, size)), np.ones((size, 1))
    distances = []
    for x in images.pixels.double().flatten(1).numpy():
        if norm is Norm.LINF:
            cost = np.append(np.zeros(size), 1.0)
            rows = [np.hstack([np.eye(size), -one]), np.hstack([-np.eye(size), -one])]
            rows.append(np.hstack([-directions, np.zeros((len(others), 1))]))
            bounds = [*zip(-x, 1 - x, strict=True), (0.0, None)]
        else:
            assert norm is Norm.L1
            cost = np.append(np.zeros(size), np.ones(size))
            rows = [np.hstack([np.eye(size), -np.eye(size)]), np.hstack([-np.eye(size), -np.eye(size)])]
            rows.append(np.hstack([-directions, zero[: len(others)]]))
            bounds = [*zip(-x, 1 - x, strict=True), *[(0.0, None)] * size]
        limits = np.concatenate([np.zeros(2 * size), directions @ x + offsets])
        found = linprog(cost, A_ub=np.vstack(rows), b_ub=limits, bounds=bounds)
        distances.append(found.fun if found.status == 0 else math.inf)
    return np.array(distances)


def _reach(direction: Floats, needed: float, x: Floats, norm: Norm) -> float:
    """min |v| so that <direction, v> >= needed and x + v in [0, 1]; infinite if there is none."""
    room = np.where(direction > 0, 1 - x, x)
    weight = np.abs(direction)
    if needed <= 0:
        return 0.0
    if weight @ room < needed:
        return math.inf
    if norm is Norm.L0:
        gains = np.cumsum(np.sort(weight * room)[::-1])
        return float(np.searchsorted(gains, needed) + 1)
    if norm is Norm.L1:
        order = np.argsort(-weight)
        gains = np.cumsum(weight[order] * room[order])
        k = int(np.searchsorted(gains, needed))
        before = gains[k - 1] if k else 0.0
        return float(room[order][:k].sum() + (needed - before) / weight[order][k])
    if norm is Norm.LINF:
        return float(brentq(lambda r: weight @ np.minimum(room, r) - needed, 0, 1, xtol=1e-14))
    end = 2 * float((room / np.maximum(weight, 1e-12)).max())
    t = brentq(lambda t: weight @ np.minimum(room, t * weight) - needed, 0, end, xtol=1e-14)
    return float(np.linalg.norm(np.minimum(room, t * weight)))


def interior(norm: Norm, seed: int = 0) -> tuple[Classifier, Images, Floats]:
    """Two classes, and images whose nearest boundary point lies inside the box: |margin| / |w|_dual is exact."""
    model, weight, bias = affine(seed, classes=2)
    images = random_images(seed, 40, model)
    images = replace(images, content=0.3 + 0.4 * images.pixels)
    images = replace(images, labels=model.predict(images.pixels).argmax(1))
    w, b = torch.from_numpy(weight[1] - weight[0])[None], bias[1] - bias[0]
    margin = (images.pixels.double().flatten(1) @ w.T)[:, 0] + b
    unbounded = (margin.abs() / norm.dual.size(w)).numpy()
    exact = affine_distances(weight, bias, images, norm)
    rows = np.isclose(unbounded, exact, rtol=1e-9)
    assert rows.sum() > 10
    return model, images.select(torch.from_numpy(rows)), exact[rows]


def two_layer(seed: int) -> tuple[Classifier, list[Floats]]:
    """A ReLU network of 4 pixels, 5 hidden units and 3 classes, and its parameters in float64."""
    generator = torch.Generator().manual_seed(seed)
    first, second = nn.Linear(4, 5), nn.Linear(5, 3)
    with torch.no_grad():
        for layer, scale in ((first, 2.0), (second, 1.0)):
            layer.weight.copy_(scale * torch.randn(layer.weight.shape, generator=generator))
            layer.bias.copy_(0.3 * torch.randn(layer.bias.shape, generator=generator))
        first.bias.sub_(first.weight.sum(1) / 2)
    parameters = [p.detach().double().numpy().copy() for p in (first.weight, first.bias, second.weight, second.bias)]
    network = nn.Sequential(nn.Flatten(), first, nn.ReLU(), second)
    return make_classifier("two-layer", network, (1, 2, 2)), parameters


_SOLVED: dict[tuple[bytes, int], float] = {}


def two_layer_linf(parameters: list[Floats], x: Floats, label: int) -> float:
    """The exact Linf distance of x (4,) to another class: one linear program per activation pattern and class, solved
    once for all tests of a process."""
    key = b"".join(values.tobytes() for values in (*parameters, x)), label
    if key not in _SOLVED:
        _SOLVED[key] = _enumerated(parameters, x, label)
    return _SOLVED[key]


def _enumerated(parameters: list[Floats], x: Floats, label: int) -> float:
    w1, b1, w2, b2 = parameters
    best = math.inf
    for pattern in itertools.product([0.0, 1.0], repeat=len(b1)):
        on = np.array(pattern)
        sign = 2 * on - 1
        for other in range(len(b2)):
            if other == label:
                continue
            row = (w2[other] - w2[label]) * on
            slope, offset = row @ w1, row @ b1 + b2[other] - b2[label]
            # Variables (z, r): minimise r; |z - x| <= r, the pattern holds, the other class is at least as high.
            one = np.ones((4, 1))
            upper = np.vstack(
                [
                    np.hstack([np.eye(4), -one]),
                    np.hstack([-np.eye(4), -one]),
                    np.hstack([-sign[:, None] * w1, np.zeros((len(b1), 1))]),
                    np.append(-slope, 0.0)[None],
                ]
            )
            limit = np.concatenate([x, -x, sign * b1, [offset]])
            found = linprog(np.append(np.zeros(4), 1.0), upper, limit, bounds=[(0, 1)] * 4 + [(0, None)])
            if found.status == 0:
                best = min(best, float(found.fun))
    return best
