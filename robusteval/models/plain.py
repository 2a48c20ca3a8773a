"""A plain network and plain tensors as the classifier and the images that methods take."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from robusteval.core.errors import UserError
from robusteval.core.images import Images
from robusteval.data.classes import by_name
from robusteval.models.answers import answered
from robusteval.models.classifier import Classifier
from robusteval.models.making import make_classifier

BATCH = 100
"""Images a batch where the caller says nothing."""
LARGEST_BATCH = 2**20
"""No device holds more images at once."""


def as_images(pixels: Tensor, labels: Tensor, source: str = "the given tensors") -> Images:
    """Images named by their place, "000000" onwards, from pixels (N, C, H, W) in [0, 1] and labels (N,), a tensor of
    whole numbers.

    Raises UserError in one line for another shape, type or range.
    """
    if not isinstance(pixels, Tensor) or not isinstance(labels, Tensor):
        found = f"{type(pixels).__name__} and {type(labels).__name__}"
        raise UserError(f"expected torch tensors of pixels and labels, got {found}")
    if torch.is_inference_mode_enabled() or pixels.is_inference():
        raise UserError("expected tensors and a call outside torch.inference_mode(), where nothing has a gradient")
    if labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool:
        raise UserError(f"expected labels of whole numbers, got {labels.dtype}")
    if pixels.dim() != 4:
        raise UserError(f"expected pixels of shape (N, C, H, W) in {source}, got {tuple(pixels.shape)}")
    ids = tuple(f"{i:06d}" for i in range(len(pixels)))
    return Images(ids, pixels.detach(), labels.detach().to(pixels.device, torch.int64), source=source).checked()


def as_classifier(network: nn.Module | Classifier, images: Images, batch_size: int = BATCH) -> Classifier:
    """The classifier of a network that takes pixels in [0, 1], on the device and in the type of the images, with a
    fresh meter for them. The network is copied and stays as it is; a Classifier is taken as it is, which saves that.

    Raises UserError where it does not fit the images or their labels.
    """
    check_batch_size(batch_size, "a whole batch size")
    if images.pixels.dtype not in (torch.float32, torch.float64):
        raise UserError(
            f"expected pixels of float32 or float64, in which the judge can decide, got {images.pixels.dtype}"
        )
    classifier = network if isinstance(network, Classifier) else make_classifier("the network", network, images.shape)
    check_fit(classifier, images)
    placed = classifier.to(images.pixels.device, images.pixels.dtype)
    return replace(placed, batch_size=batch_size).metered(len(images))


def check_batch_size(size: object, what: str) -> None:
    """Raises UserError that expects `what` unless `size` is a whole number that a batch can have."""
    if not isinstance(size, int) or isinstance(size, bool) or not 1 <= size <= LARGEST_BATCH:
        raise UserError(f"expected {what} from 1 to {LARGEST_BATCH:,}, got {size}")


def finite_logits(classifier: Classifier, images: Images) -> Tensor:
    """The logits of the images themselves, (N, K).

    Raises UserError for logits that are not finite: no attack can be judged there, and none may seem to fail.
    """
    logits = classifier.predict(images.pixels)
    check_answered(classifier, images, logits)
    return logits


def check_answered(classifier: Classifier, images: Images, logits: Tensor) -> None:
    """Raises UserError unless the logits (N, K) of the images are finite, every one."""
    if not answered(logits).all():
        bad = images.ids[int((~answered(logits)).nonzero()[0])]
        raise UserError(f"expected finite logits from {classifier.name}, got NaN or infinity on image {bad}")


def clean_predictions(classifier: Classifier, images: Images) -> Tensor:
    """The class of each image itself, (N,), booked to nobody. Raises UserError as finite_logits."""
    return finite_logits(classifier.metered(len(images)), images).argmax(1)


def labelled_for(classifier: Classifier, images: Images) -> Images:
    """The images with the labels that their classes have in the classifier: by the names on its card, where both have
    names. Raises UserError with both where a class of the images has no name there."""
    names = card_classes(classifier)
    if not names or not images.class_names:
        return images
    return by_name(images, names, f"the card of {classifier.name}")


def check_sources(classifier: Classifier, sources: Sequence[Classifier], images: Images) -> None:
    """Raises UserError where a source of transfer attacks takes other images, or has the classes in another order."""
    for source in sources:
        check_fit(source, images)
        theirs, own = card_classes(source), card_classes(classifier)
        if (theirs and own and theirs != own) or not labelled_for(source, images).labels.equal(images.labels):
            raise UserError(
                f"expected sources with the classes of {classifier.name} in the same order "
                f"({', '.join(own or images.class_names)}), got {', '.join(theirs)} in {source.name}"
            )


def card_classes(classifier: Classifier) -> tuple[str, ...]:
    """The names of the classes on the card of a classifier, where they are one a class."""
    names = classifier.origin.class_names if classifier.origin else ()
    return names if len(names) == classifier.num_classes else ()


def check_fit(classifier: Classifier, images: Images) -> None:
    """Raises UserError unless the classifier takes these images, knows these labels, and has as many classes as the
    data where that says how many."""
    if classifier.input_shape != images.shape:
        wanted, got = ("x".join(map(str, shape)) for shape in (classifier.input_shape, images.shape))
        raise UserError(f"expected images of shape {wanted} for {classifier.name}, got {got} in {images.source}")
    check_classes(classifier.name, classifier.num_classes, images)
    wrong = (images.labels < 0) | (images.labels >= classifier.num_classes)
    if wrong.any():
        i = int(wrong.nonzero()[0])
        raise UserError(
            f"expected labels from 0 to {classifier.num_classes - 1} for {classifier.name}, "
            f"got {int(images.labels[i])} for image {images.ids[i]} of {images.source}"
        )


def check_classes(name: str, count: int, images: Images) -> None:
    """Raises UserError where the data has another number of classes than the `count` of the model `name`."""
    if images.classes_known in (None, count):
        return
    named = f" ({', '.join(images.class_names[:20])})" if images.class_names else ""
    raise UserError(
        f"expected data of {count} classes for {name}, got {images.classes_known} in {images.source}{named}; say which "
        f"class of the model each is: --classes FILE with the names of all {count}, one a line in the order of the "
        f"model, or --classes {count} where the names of the data are their numbers, 0 to {count - 1}"
    )
