"""lipschitz: radii proven by an upper bound of the network's global Lipschitz constant."""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from torch import Tensor

from robusteval.certify.base import Radii, State
from robusteval.certify.extreme_value.loss import rounded_down
from robusteval.certify.propagation.asked import Proof
from robusteval.certify.propagation.ball import InputBall
from robusteval.certify.propagation.base import LEFT, batches, check_near
from robusteval.certify.propagation.graph import Graph
from robusteval.certify.propagation.interval_bounds import propagated, rounding_errors
from robusteval.certify.propagation.lipschitz_constants import layer_constants, pair_constants, value_constants
from robusteval.certify.propagation.margins import class_differences
from robusteval.certify.propagation.trace import trace
from robusteval.core.images import Images
from robusteval.core.methods import Quantity, Statistic, Step
from robusteval.core.norms import Norm
from robusteval.core.streams import Streams
from robusteval.models.classifier import Classifier


class Lipschitz(Proof):
    """|v| >= (f_c(x) - f_i(x)) / L_ci for the least i, if L_ci is a Lipschitz constant of f_c - f_i everywhere.

    A PROOF (Tsuzuku et al. 2018, Proposition 1, with a constant for each pair of classes): L_ci is the product of upper
    bounds of the operator norms of the layers, in L2 by Gram iteration (propagation/spectral_norms.py; never a power
    iteration, which estimates from below), in L1 and Linf exactly, and of the dual norm of w_c - w_i in the last layer.
    For L1 and Linf it is the smaller of that product and what follows from the one in L2, by |v|_2 <= |v|_1 and
    |v|_2 <= sqrt(D) |v|_inf. The margin is that of the network as it is evaluated, less what rounding can add at the
    image and at any image within the radius. Everything is rounded up, the radius down. Misclassified images get 0.
    With `at` the
    largest of the radii asked that is no larger. One forward evaluation an image, and those that attack the proof; the
    constants are computed once.
    """

    name: ClassVar[str] = "lipschitz"
    title: ClassVar[str] = "Lipschitz margin"
    summary: ClassVar[str] = "margin over a proven Lipschitz constant (Tsuzuku et al. 2018; Delattre et al. 2023)"
    quantities = (
        Quantity(name="lipschitz", title="largest constant of a pair of classes"),
        Quantity(name="lipschitz_layer", title="constant of a layer"),
        Quantity(name="lipschitz_features", title="constant of what the last affine layers take"),
        LEFT,
    )

    def prepare(self, classifier: Classifier, images: Images, streams: Streams, step: Step) -> State:
        """`lipschitz`: the largest constant of a pair of classes; `lipschitz_layer` at k: that of layer k in `norm`;
        `lipschitz_features` at p: that of what the last affine layers take, in Lp (0 for Linf)."""
        graph, state = trace(classifier), []
        for norm in {self.norm, Norm.L2}:
            layers = layer_constants(graph, norm)
            features = value_constants(graph, layers, norm)[graph.tail()]
            state.append(Statistic("lipschitz_features", _at(norm), features))
            if norm is self.norm:
                state += [Statistic("lipschitz_layer", float(k), value) for k, value in enumerate(layers)]
        state.sort(key=lambda s: (s.quantity, s.at))
        step(len(images), len(images))
        largest = float(self._pairs(graph, tuple(state)).max())
        return (*state, Statistic("lipschitz", 0, largest))

    def radii(self, classifier: Classifier, images: Images, state: State, streams: Streams) -> Radii:
        """The measurement `proven_margin`: the least margin f_c - f_i less what rounding can add to it within the ball
        that it would have without; NaN for misclassified images."""
        asked, graph = self.questions(images), trace(classifier)
        logits = classifier.predict(images.pixels).double()
        predicted = logits.argmax(1)
        pairs = self._pairs(graph, state).to(logits.device)
        radius = torch.zeros(len(images), dtype=torch.float64, device=logits.device)
        left = torch.full_like(radius, torch.nan)
        for rows in batches(graph, predicted == images.labels):
            x, labels = images.pixels[rows].double(), images.labels[rows]
            others = class_differences(labels, graph.classes)[..., 0, 0]
            margins = (others @ logits[rows][:, :, None])[..., 0]
            reach = self.norm.size(torch.maximum(x, 1 - x))
            first = (margins / pairs[labels]).amin(1).nan_to_num(0.0).minimum(reach).clamp_min(0)
            # What can happen within that radius, in any norm, happens within it in Linf.
            known = propagated(graph, InputBall(Norm.LINF, x, first))
            errors = (others.abs() @ rounding_errors(graph, known)[:, :, None])[..., 0]
            # An infinite margin is one of logits that overflowed: nothing is sure of it.
            sure = (margins - 2 * errors).nan_to_num(-torch.inf, -torch.inf, -torch.inf)
            left[rows] = sure.amin(1)
            radius[rows] = (sure / pairs[labels]).amin(1).nan_to_num(0.0).minimum(first)
        radius = rounded_down(radius * (1 - 1e-12))
        if asked is not None:
            radius = torch.where(asked <= radius[:, None], asked, 0.0).amax(1)
        check_near(graph, classifier, images, self.norm, radius, streams)
        return Radii(radius, predicted, torch.zeros_like(predicted, dtype=torch.bool), ((LEFT.name, 0.0, left),))

    def _pairs(self, graph: Graph, state: State) -> Tensor:
        """L_ci in `norm`, (K, K - 1)."""
        features = {s.at: s.value for s in state if s.quantity == "lipschitz_features"}
        euclidean = pair_constants(graph, Norm.L2, features[_at(Norm.L2)])
        wide = math.sqrt(math.prod(graph.nodes[0].shape)) * (1 + 1e-12) if self.norm is Norm.LINF else 1.0
        return torch.minimum(pair_constants(graph, self.norm, features[_at(self.norm)]), wide * euclidean)


def _at(norm: Norm) -> float:
    return 0.0 if math.isinf(norm.p) else norm.p
