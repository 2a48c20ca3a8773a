"""The power method on the Jacobian at each image of a batch, and the gain that it ends at (OpNorm, section 4).

J is that of the logits with respect to the pixels, at each image, in the network's present mode; no gradient in the
weights flows through the directions.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from robusteval.core.norms import Norm
from robusteval.defenses.base import Batch, statistics_kept
from robusteval.numerics.jacobian import Linearised

Form = Literal["difference", "jacobian"]
"""|f(x + eps v) - f(x)|, or eps * u^T J v by double backpropagation."""


def shared(norm: Norm, z: Tensor) -> Tensor:
    """The maximiser v of <v, z> over |v|_p <= 1, p of `norm`, of rows z (N, D): Eq. 16. For p = 1 the largest entries
    share the unit equally, as the limit of Eq. 12 has it, section 7.5."""
    if norm is not Norm.L1:
        return norm.steepest(z)
    magnitude = z.abs()
    largest = (magnitude == magnitude.amax(1, keepdim=True)) & (magnitude > 0)
    return z.sign() * largest / largest.sum(1, keepdim=True).clamp_min(1)


def maximisers(network: nn.Module, batch: Batch, p: Norm, q: Norm, iterations: int) -> tuple[Tensor, Tensor]:
    """Eq. 12 from a random start at each image: u (N, K) with |u|_q* = 1 and v (N, C, H, W) with |v|_p = 1, so that
    u^T J v = |J v|_q comes to a (for (2, 2), the) local maximum. One pass forward, two for each iteration."""
    v = p.scale_to(batch.normal(), 1.0).flatten(1)
    with statistics_kept(network):
        j = Linearised(network, batch.pixels)
    for _ in range(iterations):
        u = shared(q.dual, j.push(v[:, None])[:, 0])
        v = shared(p, j.pull(u[:, None])[:, 0])
    u = shared(q.dual, j.push(v[:, None])[:, 0])
    return u.detach(), v.detach().view_as(batch.pixels)


def gain(
    network: nn.Module, batch: Batch, logits: Tensor, directions: tuple[Tensor, Tensor], q: Norm, eps: float, form: Form
) -> Tensor:
    """eps |J v|_q at each image, (N,), differentiable in the weights, for directions (u, v). `logits` are those of the
    batch, recorded."""
    u, v = directions
    if form == "difference":
        return q.size(network(batch.pixels + eps * v) - logits)
    x = batch.pixels.detach().requires_grad_()
    (pulled,) = torch.autograd.grad((network(x) * u).sum(), x, create_graph=True)
    return eps * (pulled * v).flatten(1).sum(1)
