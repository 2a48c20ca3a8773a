"""What rounding can add: one allowance for each layer, so that a proof speaks of the network as it is evaluated.

Assumed is the standard model of floating point (Higham 2002, *Accuracy and Stability of Numerical Algorithms*, section
2.2, with underflow as in Eq. 2.8): each operation gives (a op b)(1 + d) + e with |d| <= u and |e| <= tiny, u the unit
roundoff of the type and tiny its smallest normal number (so that flushing to zero is covered). A fused multiply-add is
one rounding instead of two. Direct and matrix-product convolutions keep to this in any order of summation; Winograd's
and Fourier's do not, nor does TF32, which an audit switches off.

The network. An output of y = W x + b is a sum of n products and a bias. Whatever the order, no term goes through more
than r = n + 2 roundings, and a product of r factors (1 + d) is 1 + t with |t| <= gamma_r(u) = r u / (1 - r u) (Higham,
Lemma 3.1), so that

    |computed y - (W x + b)|  <=  gamma_r(u) m + 2 r tiny,      m = |W| |x| + |b|                              (1)

with x the computed input of the layer. Where b is itself computed (batch normalisation), |b| stands for the sum of the
magnitudes that it is made of. Maxima are exact.

This program. Bounds are computed in float64, unit roundoff v, the same way:
- forward, centre and radius of an interval err by at most gamma_r(v) m together, and their sum by v m;
- backward, a row a of coefficients becomes a' = a W computed as a W + E, |E| <= gamma_f(v) |a| |W|, f the terms of an
  entry. Replacing a W x by a' x errs by at most |E| |x| <= gamma_f(v) |a| m, so it is charged to the row like (1);
- where branches of the graph meet, coefficients are added: c roundings at most, c the number of layers, of a magnitude
  that is at most |a| times what the layer answers, which is at most m;
- the constants a b and the charges |a| s are added up over entries and layers: gamma_N(v) |a| m, N their number.
With N = r + f + entries + layers + 16 each of the four is at most gamma_N(v) m, so that the allowance of a layer is

    s = (gamma_r(u) + 5 gamma_N(v)) m + 2 r tiny                                                              (2)

(the fifth for the rounding of m and of s). In interval arithmetic s widens the output of the layer; in a backward pass
|a| s is taken off. Both then hold for every number that the network can have computed.
"""

from __future__ import annotations

import torch
from torch import Tensor

from robusteval.certify.propagation.ops import Affine

DOUBLE = 2.0**-53
"""v, the unit roundoff of float64."""


def gamma(n: int, unit: float = DOUBLE) -> float:
    """gamma_n(u) = n u / (1 - n u), rounded up; infinite where the model says nothing."""
    return 1.000001 * n * unit / (1 - n * unit) if n * unit < 1 else float("inf")


def allowance(op: Affine, size: Tensor, layers: int, dtype: torch.dtype) -> Tensor:
    """s of (2), (M, C, H, W), for outputs of size m = |W| |x| + |b| (M, C, H, W) computed in `dtype`."""
    info = torch.finfo(dtype)
    steps = op.roundings + op.fan_out + size[0].numel() + layers + 16
    relative = gamma(op.roundings, info.eps / 2) + 5 * gamma(steps)
    return relative * size + 2 * op.roundings * info.smallest_normal


def entries(x: Tensor) -> float:
    """The relative error of a float64 sum over the entries of a row of x (M, ...), with room for a few roundings."""
    return gamma(2 * x[0].numel() + 16)
