"""Exact Linf distances of fully connected ReLU networks by mixed-integer programming: HiGHS as an independent referee.

    python benchmarks/referee.py --networks 40 --images 5

MIPVerify's formulation (Tjeng, Xiao & Tedrake 2019): a binary variable for each ReLU whose input, by intervals over the
images that are looked at, may have either sign. One program for each other class.
"""

from __future__ import annotations

import argparse
import math

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import Bounds, LinearConstraint, milp
from torch import nn

from robusteval.certify.branching.beta_crown import BetaCROWN
from robusteval.core.norms import Norm
from robusteval.models.classifier import Classifier
from robusteval.models.making import make_classifier

ROOM = 1e-5
"""Of float32 in what the network answers, and of the solvers."""
Floats = NDArray[np.float64]
Layer = tuple[Floats, Floats]
"""Weight (F', F) and bias (F',); ReLUs between layers."""


def network_of(seed: int) -> tuple[Classifier, list[Layer]]:
    """A network of 9 pixels, two layers of 8 ReLUs and 3 classes, and its layers in float64."""
    torch.manual_seed(seed)
    network = nn.Sequential(nn.Flatten(), nn.Linear(9, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 3))
    linear = [layer for layer in network if isinstance(layer, nn.Linear)]
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.mul_(2.0)
        # Centred, so that all classes occur.
        linear[-1].bias.sub_(network(torch.rand(50, 1, 3, 3)).mean(0))
    layers = [(layer.weight.detach().double().numpy(), layer.bias.detach().double().numpy()) for layer in linear]
    return make_classifier(f"dense-{seed}", network, (1, 3, 3)), layers


def exact_linf(layers: list[Layer], x: Floats, label: int, within: float = 1.0, seconds: float = 60.0) -> float:
    """The distance of x (D,) to where another class is at least as high inside [0, 1], looked for up to `within`;
    infinite where there is none, NaN where a program did not end in time."""
    classes = len(layers[-1][1])
    found = [_to_class(layers, x, label, other, within, seconds) for other in range(classes) if other != label]
    return math.nan if any(map(math.isnan, found)) else min(found)


def _to_class(layers: list[Layer], x: Floats, label: int, other: int, within: float, seconds: float) -> float:
    low, high = np.clip(x - within, 0, 1), np.clip(x + within, 0, 1)
    size = len(x)
    lower, upper, integral = [0.0, *low], [within, *high], [0] * (size + 1)
    rows: list[tuple[dict[int, float], float, float]] = []
    for j in range(size):
        rows.append(({0: -1.0, j + 1: 1.0}, -math.inf, x[j]))
        rows.append(({0: 1.0, j + 1: 1.0}, x[j], math.inf))
    before = list(range(1, size + 1))
    for weight, bias in layers[:-1]:
        positive, negative = weight.clip(min=0), weight.clip(max=0)
        low, high = positive @ low + negative @ high + bias, positive @ high + negative @ low + bias
        after = []
        for j, (row, bottom, top) in enumerate(zip(weight, low, high, strict=True)):
            z = len(lower)
            lower, upper, integral = [*lower, 0.0], [*upper, max(top, 0.0)], [*integral, 0]
            after.append(z)
            terms = {k: -float(w) for k, w in zip(before, row, strict=True)} | {z: 1.0}
            if bottom >= 0:
                rows.append((terms, bias[j], bias[j]))
            elif top > 0:
                lower, upper, integral = [*lower, 0.0], [*upper, 1.0], [*integral, 1]
                rows.append((terms, bias[j], math.inf))
                rows.append((terms | {z + 1: -bottom}, -math.inf, bias[j] - bottom))
                rows.append(({z: 1.0, z + 1: -top}, -math.inf, 0.0))
        low, high, before = low.clip(min=0), high.clip(min=0), after
    weight, bias = layers[-1]
    ahead = {k: float(w) for k, w in zip(before, weight[other] - weight[label], strict=True)}
    rows.append((ahead, bias[label] - bias[other], math.inf))
    matrix = np.zeros((len(rows), len(lower)))
    for i, (terms, _, _) in enumerate(rows):
        matrix[i, list(terms)] = list(terms.values())
    limits = LinearConstraint(matrix, [least for _, least, _ in rows], [most for _, _, most in rows])
    cost = np.zeros(len(lower))
    cost[0] = 1.0
    options = {"time_limit": seconds, "mip_rel_gap": 1e-6}
    found = milp(cost, constraints=limits, bounds=Bounds(lower, upper), integrality=integral, options=options)
    if found.status == 2:
        return math.inf
    return float(found.fun) if found.status == 0 else math.nan


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", type=int, default=40)
    parser.add_argument("--images", type=int, default=5)
    options = parser.parse_args()
    pairs = wrong = exact = 0
    for seed in range(options.networks):
        classifier, layers = network_of(seed)
        pixels = torch.rand(options.images, 1, 3, 3, generator=torch.Generator().manual_seed(seed))
        labels = classifier.predict(pixels).argmax(1)
        found = BetaCROWN(norm=Norm.LINF)(classifier, pixels, labels)
        uppers = found.measurements["witness_distance", 0.0].nan_to_num(nan=math.inf).tolist()
        for i, (lower, upper) in enumerate(zip(found.radius.tolist(), uppers, strict=True)):
            distance = exact_linf(layers, pixels[i].flatten().double().numpy(), int(labels[i]))
            pairs, exact = pairs + 1, exact + int(found.measurements["exact", 0.0][i])
            room = ROOM * (0.1 + distance)
            if not lower <= min(distance, 1.0) + room or not upper >= distance - room:
                wrong += 1
                print(f"network {seed}, image {i}: {distance} is not between {lower} and {upper}", flush=True)
    print(f"{pairs} pairs, {exact} exact to 1 %, {wrong} disagreements")


if __name__ == "__main__":
    main()
