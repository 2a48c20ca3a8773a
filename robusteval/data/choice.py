"""Which images of a data set are used: all, the first N, or N drawn at random."""

from __future__ import annotations

from robusteval.core.errors import UserError
from robusteval.core.images import Images
from robusteval.core.reading import AS_IT_IS, Reading
from robusteval.data import check_limit, read_images
from robusteval.data.classes import Classes


def read_chosen(
    spec: str,
    limit: int | None = None,
    sample: int | None = None,
    seed: int = 0,
    *,
    classes: Classes | None = None,
    reading: Reading = AS_IT_IS,
) -> Images:
    """The images of `--data`: the first `limit`, or `sample` drawn at random, which alone are decoded; `classes` and
    `reading` as for read_images. Raises UserError in one line."""
    limit, sample = first_or_drawn(limit, sample)
    return read_images(spec, limit, classes=classes, reading=reading, sample=sample, seed=seed)


def first_or_drawn(limit: int | None, sample: int | None) -> tuple[int | None, int | None]:
    """How many images from the first on, or how many drawn at random: one of the two at most. A sample of True is as
    many as the limit says, drawn. Raises UserError where both are numbers, or a limit that is none."""
    check_limit(limit)
    if sample is True:
        if limit is None:
            raise UserError("expected a number of images to draw, --limit N --sample or --sample N, got none")
        return None, limit
    if limit is not None and sample is not None:
        raise UserError(
            f"expected --limit or --sample, got both ({limit} and {sample}); --limit {limit} --sample draws {limit}"
        )
    return limit, sample


def read_again(spec: str, reading: Reading, limit: int | None, sample: int | None, seed: int) -> Images:
    """The images that a run says it is of: read in the same way, and drawn again where they were drawn. Numbers that
    the data set has not, which a run may claim, choose nothing."""
    try:
        return read_images(spec, limit, reading=reading, sample=sample, seed=seed)
    except UserError:
        return read_images(spec, reading=reading)
