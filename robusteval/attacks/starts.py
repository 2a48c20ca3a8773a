"""Misclassified images to start from, however far from the image, and bringing them closer."""

from __future__ import annotations

import torch
from torch import Tensor

from robusteval.attacks.search.active import keep
from robusteval.attacks.search.losses import Goal, Loss
from robusteval.core.images import Images
from robusteval.core.norms import Norm, column
from robusteval.core.streams import Streams
from robusteval.models.answers import misclassified
from robusteval.models.classifier import Classifier

SCALES = tuple(0.02 * 2**k for k in range(8))
"""Standard deviations of the noise, tried in this order."""
UNIFORM = 10
"""Uniform images tried where no noise fools."""
CLASSES, STEPS, STEP = 9, 10, 0.1
"""Gradient steps towards each of the most likely other classes, STEP of the box's reach each."""
HALVINGS = 8
"""Projections of each image found, before the closest is chosen."""


def starts(classifier: Classifier, images: Images, norm: Norm, streams: Streams) -> tuple[Tensor, Tensor]:
    """Which images a misclassified image was found for, (N,), and the images (N, C, H, W) in [0, 1].

    The image itself if it is misclassified; else the closest in `norm` of the first image that random noise gives
    (white noise on the image, of growing size; if none fools, uniform images) and those that gradient steps from the
    image give, towards each of some other classes. Where none was found, the image.
    """
    best = images.pixels.clone()
    clean = classifier.predict(best)
    found = misclassified(clean, images.labels)
    distance = torch.where(found, 0.0, torch.inf).to(best)

    def offer(rows: Tensor, candidates: Tensor) -> Tensor:
        """Bring misclassified ones of these images closer, take those closer than the best; which were wrong."""
        view, chosen = keep(rows, classifier, images)
        wrong = view.misclassifies(candidates, chosen.labels)
        if wrong.any():
            won = rows[wrong]
            near = closer(*keep(wrong, view, chosen, candidates), norm, HALVINGS)
            size = norm.size(near - images.pixels[won])
            better = size < distance[won]
            best[won[better]], distance[won[better]], found[won] = near[better], size[better], True
        return wrong

    right = rows = (~found).nonzero()[:, 0]
    noise = streams.select(rows).normal(*images.shape)
    for scale in SCALES:
        if len(rows):
            wrong = offer(rows, (images.pixels[rows] + scale * noise).clamp(0, 1))
            rows, noise = keep(~wrong, rows, noise)
    for _ in range(UNIFORM):
        if len(rows):
            rows = rows[~offer(rows, streams.select(rows).uniform(*images.shape))]
    others = clean.scatter(1, images.labels[:, None], -torch.inf).argsort(dim=1, descending=True)
    ranked = others[:, : min(CLASSES, classifier.num_classes - 1)]
    for way in dict.fromkeys((norm, Norm.LINF)):
        # Where steps in another norm find nothing, steps of all pixels together reach the corners of the box.
        for targets in ranked.unbind(1):
            rows = right if way is norm else right[~found[right]]
            if len(rows):
                offer(rows, _towards(*keep(rows, classifier, images, targets), way))
    return found, best


def _towards(classifier: Classifier, images: Images, targets: Tensor, norm: Norm) -> Tensor:
    """Images some gradient steps from the images towards `targets` (N,), or the first misclassified on the way."""
    result = images.pixels.clone()
    rows = torch.arange(len(images), device=result.device)
    reach = STEP * norm.size(torch.ones_like(result))
    for _ in range(STEPS):
        gradient, _, logits = classifier.gradient(result[rows], Goal(Loss.MARGIN, images.labels, targets))
        on = ~misclassified(logits, images.labels)
        rows, classifier, images, targets, gradient = keep(on, rows, classifier, images, targets, gradient)
        if not len(rows):
            break
        step = column(reach[rows], gradient) * norm.steepest(gradient)
        result[rows] = (result[rows] + step).clamp(0, 1)
    return result


def closer(classifier: Classifier, images: Images, witnesses: Tensor, norm: Norm, steps: int) -> Tensor:
    """Misclassified images brought closer in `norm`, (N, C, H, W): the smallest ball, by bisection, whose projection
    of the witness is still misclassified. What was misclassified stays so; costs `steps` forwards an image."""
    v = witnesses - images.pixels
    high = norm.size(v)
    low = torch.zeros_like(high)
    best = witnesses
    for _ in range(steps):
        radius = (low + high) / 2
        candidates = (images.pixels + norm.project(v, radius)).clamp(0, 1)
        wrong = classifier.misclassifies(candidates, images.labels)
        best = torch.where(column(wrong, best), candidates, best)
        low, high = torch.where(wrong, low, radius), torch.where(wrong, radius, high)
    return best
