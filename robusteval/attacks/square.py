"""Square: a random search that sees the logits only.

Andriushchenko et al. (2020), "Square Attack: a query-efficient black-box adversarial attack via random search"; L1 as
in Croce & Hein (2021), "Mind the box". A query changes square windows of the perturbation and is kept where the margin
shrinks. In Linf every pixel stays at a wall of the ball: the start are vertical stripes, a query sets one window to one
wall for each channel (algorithm 2). In L1 and L2 a query moves the size of two windows into one of them and adds what
is left of the budget to it, in the shape of a double bump (algorithm 3). The windows' share of the image halves at
fixed parts of the queries.

Deviations: a Linf window that would change nothing takes the opposite walls; windows may touch the last row and column;
windows and tiles shrink to fit images below 6 pixels. As in AutoAttack, a perturbation in L2 is scaled to the budget,
and one in L1 with several channels overfills the window and is soft-thresholded to the budget.
"""

from __future__ import annotations

import math
from functools import cache

import torch
from pydantic import Field, PositiveInt
from torch import Tensor

from robusteval.attacks.base import Candidates, FixedBudgetAttack
from robusteval.attacks.search.active import keep
from robusteval.attacks.search.ball import Ball
from robusteval.attacks.search.losses import margin
from robusteval.core.images import Images
from robusteval.core.norms import BALLS, Norm, column
from robusteval.core.passes import Passes
from robusteval.core.streams import Streams
from robusteval.models.classifier import Classifier

HALVINGS = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)
"""After how many of 10,000 queries the share of the image that a window covers halves (section 5)."""
BLOCK = 256
"""Queries whose random numbers are drawn at once."""


class Square(FixedBudgetAttack):
    """Random search with square windows.

    Costs `queries` forwards a restart for an image that is never fooled, no backward; a fooled image leaves at once.
    """

    name = "square"
    title = "Square"
    summary = "random search with square windows, black-box (Andriushchenko et al. 2020)"
    norms = BALLS
    follows = "outputs"

    queries: PositiveInt = 5000
    """Evaluations of each restart, the first of them at its start."""
    restarts: PositiveInt = 1
    p: float = Field(default=0.8, gt=0, le=1)
    """The share of the image that the first windows cover."""

    def passes_within(self, images: int, classes: int) -> Passes:
        return Passes(self.queries) * (self.restarts * images)

    def within(self, classifier: Classifier, images: Images, budget: Tensor, streams: Streams) -> Candidates:
        found = images.pixels.clone()
        rows = torch.arange(len(images), device=found.device)
        for _ in range(self.restarts):
            candidates, fooled = self._search(*keep(rows, classifier, images, budget, streams))
            found[rows[fooled]] = candidates[fooled]
            rows = rows[~fooled]
            if not len(rows):
                break
        return Candidates(found)

    def _search(
        self, classifier: Classifier, images: Images, budget: Tensor, streams: Streams
    ) -> tuple[Tensor, Tensor]:
        """One restart: the first misclassified image of each image, and which were fooled."""
        ball = Ball.around(images.pixels, self.norm, budget)
        linf = self.norm is Norm.LINF
        x = stripes(ball, streams) if linf else tiles(ball, streams)
        labels, (channels, height, width) = images.labels, images.shape
        final, fooled = images.pixels.clone(), torch.zeros_like(labels, dtype=torch.bool)
        rows = torch.arange(len(labels), device=x.device)
        score = margin(classifier.predict(x), labels)
        draws = x.new_empty(len(rows), 0, 0)
        for query in range(self.queries):
            wrong = score > 0
            if wrong.any():
                final[rows[wrong]], fooled[rows[wrong]] = x[wrong], True
                if wrong.all():
                    break
                classifier, streams, ball, x, score, labels, rows, draws = keep(
                    ~wrong, classifier, streams, ball, x, score, labels, rows, draws
                )
            if query + 1 == self.queries:
                break
            if query % BLOCK == 0:
                draws = streams.uniform(BLOCK, channels + (2 if linf else 5))
            side = self._side(query, height, width)
            proposal = (squares if linf else bumps)(ball, x, side, draws[:, query % BLOCK])
            value = margin(classifier.predict(proposal), labels)
            better = value > score
            x, score = torch.where(column(better, x), proposal, x), torch.where(better, value, score)
        return final, fooled

    def _side(self, query: int, height: int, width: int) -> int:
        """The side of the windows of the query after `query` + 1 others."""
        share = self.p / 2 ** sum(query * 10_000 // self.queries > start for start in HALVINGS)
        side = round(math.sqrt(share * height * width))
        if self.norm is not Norm.LINF:
            side = max(side, 3 if min(height, width) > 5 else 1) // 2 * 2 + 1
        return min(max(side, 1), height, width)


def stripes(ball: Ball, streams: Streams) -> Tensor:
    """Every column of each channel at one of its two walls, at random."""
    channels, _, width = ball.centers.shape[1:]
    return torch.where(streams.uniform(channels, 1, width) < 0.5, ball.high, ball.low)


def squares(ball: Ball, x: Tensor, side: int, draw: Tensor) -> Tensor:
    """x with one window of each channel at one of its two walls; draw (N, 2 + C) uniform."""
    height, width = x.shape[2:]
    down, right = offsets(draw[:, 0], height - side), offsets(draw[:, 1], width - side)
    inside = _span(down, side, height)[:, None, :, None] & _span(right, side, width)[:, None, None, :]
    up = draw[:, 2:, None, None] < 0.5
    proposal = torch.where(inside, torch.where(up, ball.high, ball.low), x)
    same = (proposal == x).flatten(1).all(1)
    return torch.where(inside, torch.where(up ^ column(same, x), ball.high, ball.low), x)


def tiles(ball: Ball, streams: Streams) -> Tensor:
    """The image covered with 5 x 5 double bumps of random sign and direction, of the size of the budget."""
    channels, height, width = ball.centers.shape[1:]
    side = max(min(height, width) // 5, 1)
    down, across = height // side, width // side
    signs = (streams.uniform(channels, down, across) - 0.5).sign()
    shapes = bump(side, ball.norm).to(signs)
    turned = streams.uniform(1, down, across)[..., None, None] < 0.5
    grid = signs[..., None, None] * torch.where(turned, shapes.T, shapes)
    top, left = (height - down * side) // 2, (width - across * side) // 2
    delta = torch.zeros_like(ball.centers)
    delta[:, :, top : top + down * side, left : left + across * side] = grid.transpose(3, 4).flatten(4, 5).flatten(2, 3)
    return ball.nearest(ball.centers + ball.norm.scale_to(delta, ball.radius))


def bumps(ball: Ball, x: Tensor, side: int, draw: Tensor) -> Tensor:
    """x with the size of two windows and what is left of the budget moved into the first; draw (N, 5 + C) uniform."""
    p, norm, (channels, height, width) = ball.norm.p, ball.norm, x.shape[1:]
    first = window(draw[:, 0], draw[:, 1], side, height, width).expand(-1, channels, -1)
    second = window(draw[:, 2], draw[:, 3], side, height, width).expand(-1, channels, -1)
    delta = (x - ball.centers).flatten(2)
    left = (ball.radius**p - norm.size(delta) ** p).clamp_min(0) / channels
    old = delta.gather(2, first)
    delta = delta.scatter(2, first, 0.0)
    moved = _size(old, p) ** p + _size(delta.gather(2, second), p) ** p
    delta = delta.scatter(2, second, 0.0)
    shapes = bump(side, norm).to(x)
    turned = draw[:, 4, None, None] < 0.5
    shape = torch.where(turned, shapes.T.flatten(), shapes.flatten())
    signs = torch.where(draw[:, 5:, None] < 0.5, 1.0, -1.0).to(x)
    new = signs * shape + old / _size(old, p)
    new = new / _size(new, p) * (left[:, None, None] + moved) ** (1 / p)
    if norm is Norm.L1:
        new = new * channels
    delta = delta.scatter(2, first, new).view_as(x)
    if norm is Norm.L2:
        delta = norm.scale_to(delta, ball.radius)
    return ball.nearest(ball.centers + delta)


@cache
def bump(side: int, norm: Norm) -> Tensor:
    """Two halves with a peak each, of opposite signs, of size 1 in `norm`, (side, side) float64 (Eq. 3)."""

    def half(height: int) -> Tensor:
        middle, center = height // 2, side // 2
        rows, columns = (torch.arange(height) - middle).abs(), (torch.arange(side) - center).abs()
        rings = torch.arange(1, max(middle, center) + 2, dtype=torch.float64) ** (-2 if norm is Norm.L2 else -4)
        peak = rings.flip(0).cumsum(0).flip(0)[torch.maximum(rows[:, None], columns)]
        return norm.scale_to(peak[None], 1.0)[0]

    if side == 1:
        return torch.ones(1, 1, dtype=torch.float64)
    both = torch.cat([half(side // 2), -half(side - side // 2)])
    return norm.scale_to(both[None], 1.0)[0]


def window(down: Tensor, right: Tensor, side: int, height: int, width: int) -> Tensor:
    """The places in a flattened channel (N, 1, side * side) of a window at uniform draws (N,) from the top and left."""
    steps = torch.arange(side, device=down.device)
    rows = offsets(down, height - side)[:, None] + steps
    columns = offsets(right, width - side)[:, None] + steps
    return (rows[:, :, None] * width + columns[:, None]).flatten(1)[:, None]


def offsets(uniform: Tensor, last: int) -> Tensor:
    """Uniform draws in [0, 1) (N,) as integers from 0 to last."""
    return (uniform * (last + 1)).long().clamp_max(last)


def _span(start: Tensor, side: int, length: int) -> Tensor:
    """Which of `length` places lie in [start, start + side), (N, length)."""
    places = torch.arange(length, device=start.device) - start[:, None]
    return (places >= 0) & (places < side)


def _size(v: Tensor, p: float) -> Tensor:
    """The size of each channel's window, (N, C, 1), never zero."""
    size: Tensor = torch.linalg.vector_norm(v, ord=p, dim=2, keepdim=True)
    return size.clamp_min(torch.finfo(v.dtype).tiny)
