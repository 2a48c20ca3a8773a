"""Search on the segment from each image to a witness: the shortest misclassified part of it that a bracket finds.

Regula falsi on the margin, with the Illinois rule (Dowell & Jarratt 1971: an end that stays twice in a row counts half)
and steps kept away from the ends of the bracket, so that a margin that says nothing between them still ends in a
bisection. The far end of the bracket is misclassified at all times, whatever the model does in between.
"""

from __future__ import annotations

import torch
from torch import Tensor

from robusteval.attacks.search.active import keep
from robusteval.attacks.search.losses import margin
from robusteval.core.images import Images
from robusteval.core.norms import column
from robusteval.models.answers import misclassified
from robusteval.models.classifier import Classifier

GUARD = 0.05
"""The part of the bracket at each of its ends that no step enters."""
CLEAR = 64
"""An image counts as misclassified here if its margin is so many roundings of its largest logit: those closer to the
boundary may be seen otherwise in another batch, by the judge."""


def shrink(classifier: Classifier, images: Images, witnesses: Tensor, steps: int) -> Tensor:
    """Witnesses (N, C, H, W) in [0, 1] drawn towards their images, (N, C, H, W).

    Each pixel lies between the image's and the witness's, so that no distance grows in any norm, and what was
    misclassified stays so. A row whose witness is not misclassified comes back unchanged; so does, as the image itself,
    one whose image is misclassified. Costs 2 forwards an image, and `steps` more where there is something to search.
    """
    near = classifier.predict(images.pixels)
    far = classifier.predict(witnesses)
    wrong_near, wrong_far = misclassified(near, images.labels), misclassified(far, images.labels)
    result = torch.where(column(wrong_near, witnesses), images.pixels, witnesses)
    rows = (wrong_far & ~wrong_near).nonzero()[:, 0]
    if not len(rows) or not steps:
        return result
    below, above = margin(near, images.labels), margin(far, images.labels)
    classifier, images, ends, below, above = keep(rows, classifier, images, witnesses, below, above)
    low, high = torch.zeros_like(above), torch.ones_like(above)
    best, last = ends, torch.zeros_like(above)
    for _ in range(steps):
        share = (-below / (above - below)).nan_to_num(0.5).clamp(GUARD, 1 - GUARD)
        at = low + share * (high - low)
        candidates = between(images.pixels, ends, at)
        logits = classifier.predict(candidates)
        values = margin(logits, images.labels)
        wrong = values > CLEAR * torch.finfo(logits.dtype).eps * logits.abs().amax(1)
        best = torch.where(column(wrong, best), candidates, best)
        side = torch.where(wrong, 1.0, -1.0).to(last)
        again = side == last
        below = torch.where(wrong, torch.where(again, below / 2, below), values)
        above = torch.where(wrong, values, torch.where(again, above / 2, above))
        low, high = torch.where(wrong, low, at), torch.where(wrong, at, high)
        last = side
    result[rows] = best
    return result


def between(start: Tensor, end: Tensor, share: Tensor) -> Tensor:
    """start + share (N,) of the way to end, (N, C, H, W): every pixel between the two, rounding included."""
    blend = start + column(share, start) * (end - start)
    return blend.clamp(torch.minimum(start, end), torch.maximum(start, end))
