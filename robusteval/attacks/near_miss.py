"""A second look at images whose closest witness lies just outside the budget.

Of the images that an ensemble could not fool, almost all are out of its reach, and more restarts for every one of them
find little. A minimum-distance attack says which are not: those with a witness at most NEAR times the budget away.
There FAB is tried towards every target and not the likeliest alone; then APGD begins at the closest witness, drawn into
the ball, and after that at random points, towards the witness's class.
"""

from __future__ import annotations

from torch import Tensor

from robusteval.attacks.apgd import QUICK, climb, start
from robusteval.attacks.fab import FAB
from robusteval.attacks.search.active import keep
from robusteval.attacks.search.ball import Ball
from robusteval.attacks.search.losses import Goal, Loss
from robusteval.core.images import Images
from robusteval.core.norms import Norm
from robusteval.core.streams import Streams
from robusteval.models.classifier import Classifier

NEAR = 1.1
RESTARTS = 4
"""Random starts after the one at the witness."""


def near_rows(norm: Norm, images: Images, budget: Tensor, witnesses: Tensor) -> Tensor:
    """The images whose witness, if they have one, is at most NEAR times the radius away."""
    size = norm.size(witnesses - images.pixels)
    return ((size > 0) & (size <= NEAR * budget)).nonzero()[:, 0]


def all_targets(
    norm: Norm,
    iterations: int,
    targets: int,
    tried: int,
    classifier: Classifier,
    images: Images,
    budget: Tensor,
    streams: Streams,
    witnesses: Tensor,
) -> Tensor:
    """The closest witnesses (N, C, H, W) of a fifth of the iterations of FAB towards each of `targets` classes.

    The image itself where there is none, and where the closest of `witnesses` is farther than NEAR times the radius,
    which costs nothing; nor does it where the `tried` classes are all that there are.
    """
    result = images.pixels.clone()
    rows = near_rows(norm, images, budget, witnesses)
    if len(rows) and tried < classifier.num_classes - 1:
        quick = FAB(norm=norm, iterations=max(1, iterations // QUICK), targets=targets)
        result[rows] = quick.search(*keep(rows, classifier, images, budget, streams)).examples
    return result


def second_look(
    norm: Norm,
    iterations: int,
    classifier: Classifier,
    images: Images,
    budget: Tensor,
    streams: Streams,
    witnesses: Tensor,
) -> Tensor:
    """Images (N, C, H, W) within the radii `budget` (N,), misclassified where it succeeded.

    `witnesses` (N, C, H, W) are misclassified, or the images themselves where there are none. Images that are not near
    cost nothing; the others at most RESTARTS + 1 times `iterations` forwards and backwards.
    """
    result = images.pixels.clone()
    rows = near_rows(norm, images, budget, witnesses)
    if not len(rows):
        return result
    classifier, images, witnesses, budget, streams = keep(rows, classifier, images, witnesses, budget, streams)
    targets = classifier.predict(witnesses).argmax(1)
    for restart in range(RESTARTS + 1):
        ball = Ball.around(images.pixels, norm, budget)
        x = start(ball, streams) if restart else ball.nearest(witnesses)
        goal = Goal(Loss.DLR, images.labels, targets)
        found, fooled, _ = climb(classifier, ball, goal, x, iterations, leave=True)
        result[rows[fooled]] = found[fooled]
        if fooled.all():
            break
        classifier, images, witnesses, budget, streams, targets, rows = keep(
            ~fooled, classifier, images, witnesses, budget, streams, targets, rows
        )
    return result
