"""How fast the values of a network can change: upper bounds of the Lipschitz constants of its layers and of itself."""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import Tensor

from robusteval.certify.propagation.along_axes import AlongAxes
from robusteval.certify.propagation.curves import Curve
from robusteval.certify.propagation.graph import Graph
from robusteval.certify.propagation.margins import other_classes
from robusteval.certify.propagation.ops import Add, Affine, Concatenate, Max, Op, Reshape, Scale
from robusteval.certify.propagation.places import Box, Shape, shape
from robusteval.certify.propagation.rounding import gamma
from robusteval.certify.propagation.spectral_norms import largest_of_convolution, largest_singular
from robusteval.certify.propagation.weighted import Conv2d, ConvTranspose2d, Linear
from robusteval.core import memory
from robusteval.core.norms import Norm

AT_ONCE = 2**22
"""Coefficients of pairs of classes that are held at a time, 32 MiB."""


def layer_constants(graph: Graph, norm: Norm) -> list[float]:
    """The Lipschitz constant of each layer in `norm`, with respect to all that it takes; that of the image is 1."""
    return [1.0, *(_layer(node.op, graph.nodes[node.inputs[0]].shape, norm) for node in graph.nodes[1:])]


def value_constants(graph: Graph, layers: list[float], norm: Norm) -> list[float]:
    """The Lipschitz constant of each value with respect to the image, from those of the layers.

    Products along a chain, sums where branches are added, the norm of the branches' constants where they are
    concatenated. A scaling of channels behind a linear layer (batch normalisation) is one layer with it.
    """
    constants = [1.0]
    for k, (node, layer) in enumerate(zip(graph.nodes[1:], layers[1:], strict=True), 1):
        taken = [constants[j] for j in node.inputs]
        if isinstance(node.op, Add) and graph.bent(k):
            left, right = node.op.factors
            total = taken[0] * float(torch.maximum(left.abs(), (left + right).abs()).max())
        elif isinstance(node.op, Add):
            factors = (float(factor.abs().max()) for factor in node.op.factors)
            total = sum(factor * constant for factor, constant in zip(factors, taken, strict=True))
        elif isinstance(node.op, Concatenate):
            total = float(norm.size(torch.tensor([taken], dtype=torch.float64)))
        else:
            total = layer * taken[0]
            before = graph.nodes[node.inputs[0]]
            if isinstance(node.op, Scale) and isinstance(before.op, Linear | Conv2d):
                together = _scaled(before.op, node.op)
                if together is not None:
                    shape = graph.nodes[before.inputs[0]].shape
                    total = min(total, _layer(together, shape, norm) * constants[before.inputs[0]])
        constants.append(total * (1 + gamma(2 * len(taken) + 4)))
    return constants


def pair_constants(graph: Graph, norm: Norm, features: float) -> Tensor:
    """Lipschitz constants of f_c - f_i with respect to the image, (K, K - 1) for each class c and the others i in
    order, where that of the value behind which all is affine is `features`."""
    ops, tail = _behind(graph)
    labels = torch.arange(graph.classes, device=_device(ops))
    # Each class is pulled back once and then subtracted: of K classes these are K rows, the differences K^2.
    unit = torch.eye(graph.classes, dtype=torch.float64, device=labels.device)[..., None, None]
    # The second is what rounding can have changed in the coefficients, before its factor.
    each, spilt = _pulled_back(ops, unit), _pulled_back([op.absolute() for op in ops], unit)
    sizes = []
    for some in labels.split(memory.rows(AT_ONCE, graph.classes * math.prod(graph.nodes[tail].shape))):
        others = other_classes(some, graph.classes)
        a = (each[some][:, None] - each[others]).flatten(0, 1)
        spill = (spilt[some][:, None] + spilt[others]).flatten(0, 1)
        size = norm.dual.size(a) + gamma(sum(op.fan_out for op in ops) + 16) * norm.dual.size(spill)
        sizes.append(size.view(len(some), -1) * (1 + gamma(2 * a[0].numel() + 16)))
    return torch.cat(sizes) * features * (1 + gamma(8))


def _behind(graph: Graph) -> tuple[list[Affine], int]:
    """The affine layers that lead to the logits, the last one first, and the value they start from."""
    ops, k = [], graph.last
    for _ in range(graph.last):
        node = graph.nodes[k]
        if k == graph.tail() or not isinstance(node.op, Affine):
            break
        ops.append(node.op)
        (k,) = node.inputs
    return ops, k


def _pulled_back(ops: list[Affine], a: Tensor) -> Tensor:
    box = Box(0, 0, 1, 1)
    for op in ops:
        ((a, box),) = op.adjoint(a, box)
        if not a.numel():
            # Windows that see nothing but padding leave no entries.
            return a.new_zeros(len(a), 1, 1, 1)
    return a


def _device(ops: list[Affine]) -> torch.device:
    tensors = (value for op in ops for value in vars(op).values() if isinstance(value, torch.Tensor))
    return next((tensor.device for tensor in tensors), torch.device("cpu"))


def _layer(op: Op, taken: Shape, norm: Norm) -> float:
    """The constant of one layer that takes a value of shape `taken`; 1 for sums and concatenations, which
    `value_constants` treats."""
    if isinstance(op, Max):
        view = op.view
        overlap = math.prod(-(-k // s) for k, s in zip(view.kernel, view.stride, strict=True))
        return float(overlap ** (1 / norm.p)) * (1 + gamma(4))
    if isinstance(op, Curve):
        return op.steepest * (1 + gamma(4))
    if isinstance(op, Scale):
        return float(op.scale.abs().max()) * (1 + gamma(4))
    if isinstance(op, Reshape | Add | Concatenate):
        return 1.0
    assert isinstance(op, Affine)
    return _linear(op, taken, norm)


def _linear(op: Affine, taken: Shape, norm: Norm) -> float:
    """The operator norm: the largest column (L1) or row (Linf) of absolute values, or the spectral norm, rounded up."""
    if norm is Norm.L2:
        return _spectral(op, taken)
    absolute = op.absolute()
    ones = torch.ones(1, *taken, dtype=torch.float64, device=_device([op]))
    answer = absolute.apply(ones)
    if norm is Norm.L1:
        ((answer, _),) = absolute.adjoint(torch.ones_like(answer), Box.whole(shape(answer)))
    if not answer.numel():
        # Windows that see nothing but padding.
        return 0.0
    return float(answer.max()) * (1 + gamma(op.rounded + op.fan_out + 4))


def _spectral(op: Affine, taken: Shape) -> float:
    if isinstance(op, Conv2d):
        return largest_of_convolution(op)
    if isinstance(op, ConvTranspose2d):
        return largest_of_convolution(op.adjoint_convolution)
    if isinstance(op, Linear):
        return float(largest_singular(op.weight[None]))
    if isinstance(op, AlongAxes):
        # Of a Kronecker product it is the product.
        return math.prod(float(largest_singular(m[None])) for m in op.matrices) * (1 + gamma(4))
    # Rows and columns bound it (Schur's test): |W|_2^2 <= |W|_1 |W|_inf.
    return math.sqrt(_linear(op, taken, Norm.L1) * _linear(op, taken, Norm.LINF)) * (1 + gamma(4))


def _scaled(op: Linear | Conv2d, scaling: Scale) -> Linear | Conv2d | None:
    """A linear layer and a scaling of its channels as one; None where the scaling differs within a channel."""
    factors = scaling.scale.flatten(1)
    if not bool((factors == factors[:, :1]).all()):
        return None
    return replace(op, weight=op.weight * factors[:, :1].view(-1, *[1] * (op.weight.dim() - 1)))
