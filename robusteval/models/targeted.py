"""Targeted properties as correctness of two classes: a network that tells one class from all the others."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from robusteval.core.errors import UserError, nearest
from robusteval.core.images import Images
from robusteval.models.answers import answered
from robusteval.models.classifier import Classifier
from robusteval.models.plain import card_classes

OTHERS, TARGET = 0, 1
"""The classes of such a view."""


class OneOrOthers(nn.Module):
    """Two logits: the largest of the classes other than `target`, and that of `target`.

    The second is the larger exactly where the network gives the target more than any other class; a tie is none of the
    target. An answer that is not finite stays so, whichever class it is of.
    """

    def __init__(self, inner: nn.Module, target: int) -> None:
        super().__init__()
        self.inner, self.target = inner, target

    def forward(self, pixels: Tensor) -> Tensor:
        logits: Tensor = self.inner(pixels)
        others = torch.cat([logits[:, : self.target], logits[:, self.target + 1 :]], dim=1).amax(1)
        both = torch.stack([others, logits[:, self.target]], dim=1)
        return torch.where(answered(logits)[:, None], both, torch.nan)


def one_or_others(classifier: Classifier, target: int) -> Classifier:
    """A view of a classifier that is right, of images `as_others`, while it does not give the class `target`. What
    attacks climb is the target's logit over the largest other one. Raises UserError for a class that it has not."""
    check_target(classifier, target)
    return replace(classifier, module=OneOrOthers(classifier.module, target).eval(), num_classes=2)


def check_target(classifier: Classifier, target: object) -> None:
    """Raises UserError unless the target is a class of the model."""
    if isinstance(target, bool) or not isinstance(target, int) or not 0 <= target < classifier.num_classes:
        raise UserError(
            f"expected a target from 0 to {classifier.num_classes - 1}, the classes of {classifier.name}, got {target}"
        )


def number_of(target: int | str | None, classifier: Classifier, names: Sequence[str] = ()) -> int | None:
    """The number of a class of the model that is given by its number, or by its name among `names`, those on the
    model's card if there are none; None for none. Raises UserError."""
    if not isinstance(target, str):
        return target
    names = names or card_classes(classifier)
    if not names:
        raise UserError(
            f"expected a target as the number of a class, since neither {classifier.name} nor its images name their "
            f"classes, got '{target}'"
        )
    found = [i for i, name in enumerate(names) if _plain(name) == _plain(target)]
    if len(found) != 1:
        often = "" if not found else f", which {len(found)} of them are called"
        raise UserError(
            f"expected a target among the {len(names):,} classes of {classifier.name}, by name or number, got "
            f"'{target}'{often} ({nearest(target, list(names)[:1000])})"
        )
    return found[0]


def _plain(name: str) -> str:
    """However its accents are encoded."""
    return unicodedata.normalize("NFC", name)


def as_others(images: Images) -> Images:
    """The images as such a view has them: of the class OTHERS, every one, under the names that they have."""
    return replace(images, labels=torch.full_like(images.labels, OTHERS), class_names=(), class_count=2)


def of_others(classifier: Classifier, images: Images, target: int | None) -> Images:
    """Without the images whose label is the target, which the property says nothing of; all of them for None. Raises
    UserError where none is left, or for a class that the model has not."""
    if target is None:
        return images
    check_target(classifier, target)
    kept = images.select(images.labels != target)
    if not len(kept):
        raise UserError(f"expected an image of another class than the target, {target}, in {images.source}, got none")
    return kept
