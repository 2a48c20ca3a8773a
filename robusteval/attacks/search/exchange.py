"""Fewer changed entries by exchanges, from a witness on: a local search in L0.

Of a witness with k changed entries it puts one back, that whose change the gradient of the margin values least. What
is left, with k - 1 changes, is mostly no witness; then it puts back the least of the changes and makes another, that
which the gradient values most, with the entry at the end of the box that the gradient points at. A move that raises
the margin stays, any other is undone and its two entries rest for a while. As soon as an image with k - 1 changes is
misclassified, it is the witness and loses an entry in turn. The gradient is a running mean over the images seen, those
undone among them: one change apart from each other, they see more than the entries whose gradient vanishes right here.
"""

from __future__ import annotations

import torch
from torch import Tensor

from robusteval.attacks.search.losses import margin
from robusteval.core.images import Images
from robusteval.core.norms import Norm, column, flat
from robusteval.models.answers import misclassified
from robusteval.models.classifier import Classifier

MEMORY = 0.7
"""The share of the running mean that a new gradient leaves."""
REST_MADE, REST_BACK = 30, 10
"""For how many moves an entry is left alone after its change, or its being put back, was undone."""


def exchange(classifier: Classifier, images: Images, witnesses: Tensor, steps: int) -> Tensor:
    """Witnesses (N, C, H, W) with fewer changed entries; what was misclassified stays so, and a row that is no witness
    comes back as it is. Costs `steps` forwards and backwards."""
    clean, best = images.pixels, witnesses
    fewest = Norm.L0.size(best - clean)
    ends = flat(clean)
    now = tried = best
    value = torch.full_like(fewest, -torch.inf)
    gradient = torch.zeros_like(clean)
    rests = torch.zeros_like(ends)
    back = made = torch.zeros_like(images.labels)
    shorter = torch.zeros_like(value, dtype=torch.bool)
    for i in range(steps):
        slope, reached, logits = classifier.gradient(tried, lambda logits: margin(logits, images.labels))
        wrong, count = misclassified(logits, images.labels), Norm.L0.size(tried - clean)
        if i == 0:
            fewest = torch.where(wrong, fewest, -1)
            gradient, value = slope, reached
        else:
            closer = wrong & (count < fewest)
            best, fewest = torch.where(column(closer, best), tried, best), torch.where(closer, count, fewest)
            stays = shorter | closer | (reached > value)
            now, value = torch.where(column(stays, now), tried, now), torch.where(stays, reached, value)
            gradient = slope + MEMORY * (gradient - slope)
            for entry, rest in ((made, REST_MADE), (back, REST_BACK)):
                until = rests.gather(1, entry[:, None])
                rests = rests.scatter(1, entry[:, None], torch.where(stays[:, None], until, i + rest))
        changed, rested = flat(now != clean), rests <= i
        shorter = changed.sum(1) >= fewest
        worth = flat(gradient * (now - clean))
        end = flat((gradient > 0).to(clean))
        gain = flat(gradient) * (end - ends)
        back = torch.where(changed & (rested | shorter[:, None]), worth, torch.inf).argmin(1)
        made = torch.where(~changed & rested, gain, -torch.inf).argmax(1)
        moved = flat(now).scatter(1, back[:, None], ends.gather(1, back[:, None]))
        exchanged = moved.scatter(1, made[:, None], end.gather(1, made[:, None]))
        tried = torch.where(shorter[:, None], moved, exchanged).view_as(clean)
    return best
