"""Whether a classifier and a set of images belong together."""

from __future__ import annotations

from robusteval.core.errors import UserError
from robusteval.core.images import Images
from robusteval.models.classifier import Classifier


def check_fit(classifier: Classifier, images: Images) -> None:
    """Raises UserError unless the classifier takes these images and knows these labels."""
    if classifier.input_shape != images.shape:
        wanted, got = ("x".join(map(str, shape)) for shape in (classifier.input_shape, images.shape))
        raise UserError(f"expected images of shape {wanted} for {classifier.name}, got {got} in {images.source}")
    wrong = (images.labels < 0) | (images.labels >= classifier.num_classes)
    if wrong.any():
        i = int(wrong.nonzero()[0])
        raise UserError(
            f"expected labels from 0 to {classifier.num_classes - 1} for {classifier.name}, "
            f"got {int(images.labels[i])} for image {images.ids[i]} of {images.source}"
        )
