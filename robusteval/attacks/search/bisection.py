"""The minimum distance of any fixed-budget attack: a bisection on the radius for each image, in one batch."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from robusteval.attacks.search.active import keep
from robusteval.attacks.search.segment import shrink
from robusteval.core.images import Images
from robusteval.core.norms import Norm
from robusteval.core.streams import Streams
from robusteval.models.classifier import Classifier

PRECISION = 0.01
"""An image is done when its last failed radius is this close to its witness, relative."""
FIRST = (1.0, 0.25, 0.0625, 0.015625)
"""Radii tried until a first witness is found, relative to the reach of the box: large ones make some attacks coarse."""
ROUNDS = 12
"""More halvings than PRECISION asks for, should a witness not come closer."""
HALVINGS = 8
"""Evaluations on the way from a new witness to its image."""
SEARCHES = 9
"""Attacks of an image, as a plan counts them: 2 until there is a witness, 7 until PRECISION."""
BACK = 0.8
"""Where evaluations are left, the search of an image that is done begins again above this part of its distance."""

Within = Callable[[int, Classifier, Images, Tensor, Streams], Tensor]
"""A fixed-budget attack, in its search of this number: images (N, C, H, W) within the radii (N,)."""


def bisect(
    within: Within, norm: Norm, classifier: Classifier, images: Images, streams: Streams, once: float | None = None
) -> Tensor:
    """The closest witnesses found (N, C, H, W), the image itself where there is none.

    Each round attacks every open image at a radius halfway between its closest witness, drawn towards the image as far
    as it stays misclassified, and the largest radius at which the attack failed. That failure proves nothing, so a
    distance found this way is an upper bound like any other. With `once`, the evaluations of an attack that fails, an
    image that is done is searched again while there is room for one of these within those of SEARCHES attacks.
    """
    before = _spent(classifier)
    best = images.pixels.clone()
    low = best.new_zeros(len(images))
    high = torch.full_like(low, torch.inf)
    reach = norm.size(torch.maximum(best, 1 - best))

    def attack(number: int, rows: Tensor, radii: Tensor) -> None:
        view, chosen, own = keep(rows, classifier, images, streams)
        candidates = within(number, view, chosen, radii, own)
        fooled = view.misclassifies(candidates, chosen.labels)
        low[rows[~fooled]] = radii[~fooled]
        won = rows[fooled]
        if len(won):
            closer = shrink(*keep(fooled, view, chosen, candidates), HALVINGS)
            size = norm.size(closer - images.pixels[won])
            better = size < high[won]
            best[won[better]], high[won[better]] = closer[better], size[better]

    for share in FIRST:
        rows = high.isinf().nonzero()[:, 0]
        if len(rows):
            attack(0, rows, share * reach[rows])
    low.zero_()

    for number in range(ROUNDS):
        rows = (high.isfinite() & (high - low > PRECISION * high)).nonzero()[:, 0]
        if not len(rows):
            break
        attack(number, rows, (low[rows] + high[rows]) / 2)
    if once is None:
        return best
    number = 0
    while True:
        number += 1
        left = SEARCHES * once - (_spent(classifier) - before)
        rows = (high.isfinite() & (high > 0) & (left >= once + HALVINGS + 3).to(high.device)).nonzero()[:, 0]
        if not len(rows):
            return best
        done = high[rows] - low[rows] <= PRECISION * high[rows]
        low[rows] = torch.where(done, BACK * high[rows], low[rows])
        attack(number, rows, (low[rows] + high[rows]) / 2)


def _spent(classifier: Classifier) -> Tensor:
    """The evaluations of each image of a view so far, (N,), on the CPU."""
    meter = classifier.meter
    return (meter.forwards + meter.backwards)[classifier.rows]
