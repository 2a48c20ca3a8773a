"""Which images of a data set are used: all, the first N, or N drawn at random."""

from __future__ import annotations

from robusteval.core.errors import UserError
from robusteval.core.images import Images
from robusteval.data import check_limit, read_images
from robusteval.data.classes import Classes


def read_chosen(
    spec: str,
    limit: int | None = None,
    sample: int | None = None,
    seed: int = 0,
    *,
    classes: Classes | None = None,
) -> Images:
    """The images of `--data`: the first `limit`, or `sample` drawn at random, for which all are read; `classes` as for
    read_images. Raises UserError in one line."""
    check_choice(limit, sample)
    images = read_images(spec, limit, classes=classes)
    return images if sample is None else images.sample(sample, seed)


def check_choice(limit: int | None, sample: int | None) -> None:
    """Raises UserError where both are given, or a limit that is none."""
    check_limit(limit)
    if limit is not None and sample is not None:
        raise UserError(f"expected --limit or --sample, got both ({limit} and {sample})")
