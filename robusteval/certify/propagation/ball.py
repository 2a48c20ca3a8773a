"""The images within a distance of each image, inside the box [0, 1], and where a linear function is largest there.

With v the step from the image, |v|_p <= eps, each pixel moves along its own sign of the weight w by an amount t between
0 and its room up to the wall, so that what is asked for is

    max  sum_j w_j t_j      over  0 <= t_j <= room_j,  |t|_p <= eps,     w >= 0                              (1)

Linf: t_j = min(room_j, eps). L1: the heaviest pixels go first, each to its wall (a fractional knapsack). L2: by weak
duality, for any tau > 0,

    sum_j w_j t_j  <=  eps^2 / (2 tau) + sum_j max over t_j <= room_j of (w_j t_j - t_j^2 / (2 tau))         (2)

whose inner maximum is at t_j = min(room_j, tau w_j). The tau at which |t|_2 = eps makes it an equality. It is found by
adding the pixels that have reached their wall to those held there until no more do: tau only grows, most often to its
end within `ROUNDS`. Stopped early, (2) is still a bound.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from robusteval.certify.propagation.places import Box
from robusteval.certify.propagation.rounding import entries, gamma
from robusteval.core.norms import Norm

ROUNDS = 6


def largest_change(weight: Tensor, down: Tensor, up: Tensor, eps: Tensor, norm: Norm) -> Tensor:
    """The maximum (1), rounded up, of weight (..., n) over steps between -down and up (..., n) of size eps (...) in
    `norm`, all broadcast against each other: (...)."""
    w = weight.abs()
    room = torch.where(weight > 0, up, down)
    if norm is Norm.LINF:
        value = (w * torch.minimum(room, eps[..., None])).sum(-1)
    elif norm is Norm.L1:
        ordered, order = w.sort(-1, descending=True)
        limit = room.gather(-1, order.expand(room.shape))
        left = eps[..., None] - (limit.cumsum(-1) - limit)
        value = (ordered * torch.minimum(left.clamp_min(0), limit)).sum(-1)
    else:
        value = _filled(w, room, eps)
    return value * (1 + 4 * gamma(weight.shape[-1] + 16))


def decline(weight: Tensor, down: Tensor, up: Tensor, eps: Tensor, norm: Norm) -> Tensor:
    """By how much `largest_change`, which is concave in eps, falls at least for each unit by which eps shrinks, rounded
    down: (...)."""
    w = weight.abs()
    room = torch.where(weight > 0, up, down)
    if norm is Norm.LINF:
        rate = (w * (room >= eps[..., None])).sum(-1)
    elif norm is Norm.L1:
        # The weight of the last pixel that moves; none that matters where all have reached their walls.
        ordered, order = w.sort(-1, descending=True)
        limit = room.gather(-1, order.expand(room.shape))
        before = limit.cumsum(-1) - limit
        last = torch.where(before < eps[..., None], ordered, torch.inf).amin(-1)
        rate = torch.where(limit.sum(-1) > eps * (1 + gamma(2 * weight.shape[-1])), last, 0.0).nan_to_num(0.0, 0.0)
    else:
        # The bound (2) holds at smaller radii for the same tau: eps^2 / (2 tau) is what falls.
        tau = _time(w.detach(), room, eps)
        rate = torch.where(_filled(w, room, eps) < (w * room).sum(-1), eps / (2 * tau), 0.0).nan_to_num(0.0, 0.0, 0.0)
    return rate * (1 - 4 * gamma(weight.shape[-1] + 16))


def _filled(w: Tensor, room: Tensor, eps: Tensor) -> Tensor:
    """The bound (2) for the best tau found."""
    tiny = torch.finfo(w.dtype).tiny
    tau = _time(w.detach(), room, eps)
    t = torch.minimum(room, tau[..., None] * w)
    inner = (t * (w - t / (2 * tau[..., None]).clamp_min(tiny))).sum(-1)
    whole = (w * room).sum(-1)
    return torch.minimum(torch.where(eps > 0, inner + eps.square() / (2 * tau).clamp_min(tiny), 0.0), whole)


def _time(w: Tensor, room: Tensor, eps: Tensor) -> Tensor:
    """The tau at which |t|_2 = eps, or a smaller one."""
    squared = w.square()
    tau = eps / squared.sum(-1).sqrt().clamp_min(1e-150)
    for _ in range(ROUNDS):
        free = tau[..., None] * w < room
        left = eps.square() - torch.where(free, 0.0, room.square()).sum(-1)
        rest = (squared * free).sum(-1)
        # Where no pixel is free the whole box lies in the ball, and any tau will do that leaves none free.
        tau = torch.where(rest > 0, (left.clamp_min(0) / rest.clamp_min(1e-300)).sqrt().maximum(tau), tau)
    return tau


@dataclass(frozen=True, eq=False)
class InputBall:
    """Images within eps (M,) of images x (M, C, H, W) in `norm`, inside [0, 1]; both float64."""

    norm: Norm
    x: Tensor
    eps: Tensor

    def sides(self) -> tuple[Tensor, Tensor]:
        """The least and the largest value of each pixel, (M, C, H, W) each, rounded outwards."""
        wide = self.eps.reshape(-1, 1, 1, 1)
        low = torch.nextafter(self.x - wide, torch.full_like(self.x, -1))
        high = torch.nextafter(self.x + wide, torch.full_like(self.x, 2))
        return low.clamp_min(0), high.clamp_max(1)

    def least(self, a: Tensor, box: Box, of: Tensor | None) -> Tensor:
        """A lower bound of <a, image>, (P, R), for rows a (P, R, C, h, w) that are zero outside of `box`; `of` (P,)
        says of which image the rows are."""
        x = box.of(self.x)
        x, eps = (x, self.eps) if of is None else (x[of], self.eps[of])
        x, rows = x.flatten(1)[:, None], a.flatten(2).double()
        at = (rows * x).sum(-1) - entries(rows.shape[2]) * rows.abs().sum(-1)
        return at - largest_change(-rows, x, 1 - x, eps[:, None], self.norm)

    def least_and_rise(self, a: Tensor, box: Box, of: Tensor) -> tuple[Tensor, Tensor]:
        """`least`, and by how much that rises at least for each unit by which eps shrinks, (P, R) each."""
        x, rows = box.of(self.x)[of].flatten(1)[:, None], a.flatten(2).double()
        return self.least(a, box, of), decline(-rows, x, 1 - x, self.eps[of][:, None], self.norm)
