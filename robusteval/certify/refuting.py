"""A proof is tried before it is handed out: attacks look for an image inside every proven ball that breaks it."""

from __future__ import annotations

import torch
from torch import Tensor

from robusteval.attacks.pgd import PGD
from robusteval.attacks.search.ball import Ball
from robusteval.attacks.search.losses import Loss
from robusteval.core.errors import RefutedError, UnsupportedError
from robusteval.core.images import Images
from robusteval.core.memory import is_out_of_memory
from robusteval.core.norms import Norm
from robusteval.core.streams import Streams
from robusteval.models.classifier import Classifier

STEPS = 4
"""Of gradient ascent from a random start."""
CORNERS = 2
"""Random corners of each ball, besides: of its faces in L1, of its sphere in L2."""


def stop_if_refuted(
    title: str, norm: Norm, classifier: Classifier, images: Images, radius: Tensor, streams: Streams
) -> None:
    """Raise RefutedError where an image within the proven `radius` (N,) of one of N images, in the box [0, 1], gets
    another class than its label, or no number for an answer.

    A short PGD and random corners, where the radius is above zero: 8 forwards and 4 backwards an image, which are
    counted. That nothing is found proves nothing: the proof does.
    """
    rows = (radius > 0).nonzero()[:, 0]
    if not len(rows):
        return
    classifier, images, streams = classifier.select(rows), images.select(rows), streams.select(rows)
    radius = radius[rows]
    ball = Ball.around(images.pixels, norm, radius)
    for tried in _candidates(ball, classifier, images, streams):
        distance = norm.size(tried.double() - images.pixels.double())
        logits = classifier.predict(tried)
        broken = (logits.argmax(1) != images.labels) | logits.isnan().any(1)
        found = (broken & (distance <= radius)).nonzero()[:, 0].tolist()
        if found:
            k = found[0]
            raise RefutedError(
                f"expected no image of another class within {norm.symbol} {float(radius[k]):.6g} of image "
                f"{images.ids[k]}, which {title} proves, got one at {float(distance[k]):.6g} (class "
                f"{int(logits[k].argmax())} instead of {int(images.labels[k])}; {len(found)} of {len(rows)} proofs "
                "refuted): the proof is wrong, please report it with the network"
            )


def _candidates(ball: Ball, classifier: Classifier, images: Images, streams: Streams) -> list[Tensor]:
    """Images (N, C, H, W) of the balls."""
    found = []
    for _ in range(CORNERS):
        direction = streams.in_ball(Norm.LINF, *images.shape)
        corner = direction.sign() if ball.norm is not Norm.L1 else direction * (direction.abs() > 0.9)
        unit = ball.norm.scale_to(corner, 1.0)
        found.append(ball.nearest(images.pixels + ball.step(1.0, unit)))
    if has_gradient(classifier, images.pixels[:1]):
        attack = PGD(norm=ball.norm, steps=STEPS, step=0.5, loss=Loss.MARGIN)
        found.append(attack.within(classifier, images, ball.radius, streams).examples)
    return found


def has_gradient(classifier: Classifier, image: Tensor) -> bool:
    """Whether autograd can be asked: what works in place, or detaches, may forbid it."""
    try:
        classifier.select(torch.zeros(1, dtype=torch.int64)).gradient(image, lambda logits: logits.sum(1))
    except (RuntimeError, UnsupportedError) as error:
        if is_out_of_memory(error):
            raise
        return False
    return True
