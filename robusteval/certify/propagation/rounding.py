"""What rounding can add: one allowance for each layer, so that a proof speaks of the network as it is evaluated.

Assumed is the standard model of floating point (Higham 2002, *Accuracy and Stability of Numerical Algorithms*, section
2.2, with underflow as in Eq. 2.8): each operation gives (a op b)(1 + d) + e with |d| <= u and |e| <= tiny, u the unit
roundoff of the type and tiny its smallest normal number (so that flushing to zero is covered). A fused multiply-add is
one rounding instead of two. Direct and matrix-product convolutions keep to this in any order of summation; Winograd's
and Fourier's do not, nor do products in TF32, which an audit switches off, or in bfloat16.

The network. An output of y = W x + b is a sum of n products and a bias. Whatever the order, no term goes through more
than r = n + 2 roundings, and a product of r factors (1 + d) is 1 + t with |t| <= gamma_r(u) = r u / (1 - r u) (Higham,
Lemma 3.1), so that

    |computed y - (W x + b)|  <=  gamma_r(u) m + 2 r tiny,      m = |W| |x| + |b|                              (1)

with x the computed input of the layer. Where b is itself computed (batch normalisation), |b| stands for the sum of the
magnitudes that it is made of. Maxima are exact, and so is what only moves numbers. What torch may be off in a smooth
activation is charged in full: it is in curves.py, and no theorem.

This program. Bounds are computed in float64, unit roundoff v, the same way:
- forward, centre and radius of an interval err by at most gamma_r(v) m together, and their sum by v m;
- backward, in a type of unit roundoff w, a row a of coefficients becomes a' = a W computed as a W + E with
  |E| <= gamma_f(w) |a| |W|, f the terms of an entry and one for the rounding of W. Replacing a W x by a' x errs by at
  most |E| |x| <= gamma_f(w) |a| m, so it is charged to the row like (1). Where branches of the graph meet, coefficients
  are added: no more roundings than there are layers, of a magnitude of at most |a| times what the layer answers, which
  is at most m. Two more are for the product of a with the constants below. The coefficients themselves need not be
  right: whatever they are, the bound is one, so that no error is carried from layer to layer;
- a coefficient that underflows errs by tiny at most, whatever a is: F^2 tiny |x|_1 a layer is taken off every row, the
  square for matrices along several axes, whose sums are sums of sums;
- the constants a b and the charges |a| s are added up over entries and layers: gamma_N(v) |a| m, N their number.
With N = r + f + entries + layers + 16 the float64 parts are at most gamma_N(v) m each, and with F = f + layers + 4 the
allowance of a layer is

    s = (gamma_r(u) + gamma_F(w) + 5 gamma_N(v)) m + 2 r tiny                                                 (2)

(with room for the rounding of m and of s). In interval arithmetic s widens the output of the layer; in a backward pass
|a| s is taken off. Both then hold for every number that the network can have computed. The model knows no overflow:
where m may reach a quarter of the largest number of the type, s is infinite, and nothing is certified.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from robusteval.certify.propagation.ops import Affine

DOUBLE = 2.0**-53
"""v, the unit roundoff of float64."""


def gamma(n: int, unit: float = DOUBLE) -> float:
    """gamma_n(u) = n u / (1 - n u), rounded up; infinite where the model says nothing."""
    return 1.000001 * n * unit / (1 - n * unit) if n * unit < 1 else float("inf")


@dataclass(frozen=True)
class Precision:
    """The type that a network of so many layers computes in, and that of the backward passes."""

    network: torch.dtype
    coefficients: torch.dtype
    layers: int

    def backward(self, terms: int) -> float:
        """gamma_F(w) for entries that are sums of `terms`."""
        return gamma(terms + self.layers + 4, torch.finfo(self.coefficients).eps / 2)

    def allowance(self, op: Affine, size: Tensor) -> Tensor:
        """s of (2), (M, C, H, W), for outputs of size m = |W| |x| + |b| (M, C, H, W)."""
        info = torch.finfo(self.network)
        steps = op.rounded + op.fan_out + size[0].numel() + self.layers + 16
        relative = gamma(op.rounded, info.eps / 2) + self.backward(op.fan_out) + 5 * gamma(steps)
        slack = relative * size + 2 * op.rounded * info.smallest_normal
        # Nothing bounds a sum that may overflow.
        return torch.where(size < info.max / 4, slack, torch.inf)

    def underflow(self, terms: int, taken: Sequence[Tensor]) -> Tensor:
        """What underflow of coefficients that are sums of `terms` can change in a row, (M,), for values of the sizes
        `taken`, (M, C, H, W) each."""
        tiny = torch.finfo(self.coefficients).smallest_normal
        # 1e-30 is for the products with constants: fewer than 10^7 a layer.
        return 1e-30 + 2 * (terms + self.layers + 4) ** 2 * tiny * torch.stack([x.sum((1, 2, 3)) for x in taken]).sum(0)


def entries(n: int) -> float:
    """The relative error of a float64 sum of n products, with room for a few roundings."""
    return gamma(2 * n + 16)
