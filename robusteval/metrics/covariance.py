"""Second moments of adversarial perturbations: which pixels, how far apart, an attack moves together.

SGR (ICLR 2019 submission) sections 3.3 and 4.2, figures 1, 2 and 5. Sigma = E[xi xi^T] (eq. 1 and 15) over the
perturbations xi = witness - image: raw second moments, which the paper calls a covariance (its footnote 4). CovFun(r)
(eq. 16) is the mean of Sigma over all pairs of pixels whose distance rounds to r, for each pair of channels.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import torch
from pydantic import NonNegativeInt
from torch import Tensor

from robusteval.core import memory
from robusteval.core.errors import UnsupportedError
from robusteval.core.images import Images
from robusteval.core.methods import Quantity, Statistic, Step
from robusteval.core.passes import Passes
from robusteval.metrics.base import AtWitnesses, Observation
from robusteval.metrics.whole_set import StreamedMetric
from robusteval.numerics.displacements import displacement_moments, displacements, padded_size, ring_means

Read = Callable[[Tensor], Tensor]
"""Indices (n,) of images -> images (n, C, H, W) float64 that have second moments."""
ENTRIES = 2**22
"""Of zero-padded spectra, held at a time: 64 MB complex128."""
BLOCKS = 20
"""The images are cut into so many blocks, whose spread gives the standard error of the mean over all."""


class Covariance(AtWitnesses, StreamedMetric):
    """Raw second moments of the perturbations of the attack `witnesses`, and beside them those of the images.

    `covariance_c_d` at a displacement, in pixels: the mean of xi_c(p) xi_d(q) over all pairs of pixels p, q of
    channels c <= d whose distance rounds to the same whole number (SGR 3.3), and over the images with a witness; `at`
    is the mean distance of these pairs. Squared pixel units. `decay_length_c_d`: the displacement at which it has
    fallen to 1/e of its value at 0 (footnote 5), by linear interpolation; left out where it never does, or does not
    start above 0. `covariance_error_c_d`: the standard error of the former over the images, from the spread of the
    means of BLOCKS blocks of them. `data_covariance_c_d` and so on: the same of all images less their mean image.
    (Pixels in [0, 1] have raw moments that are mostly their mean brightness and never decay; SGR's images are
    standardised.) `perturbations` and `images` count what was averaged over. The matrices (D, D) themselves,
    D = C * H * W in that order, are kept as evidence (`perturbations`, `images`) if D is at most `matrix`.

    Deviation: SGR perturbs every image with one budget; here are the closest witnesses, one for each image that was
    fooled, so that images that take larger perturbations weigh more. An attack with a single budget comes closest to
    the paper. Exact but for rounding: no estimate but that of the mean over images. No evaluations.
    """

    name = "covariance"
    title = "Covariance"
    summary = "second moments of an attack's perturbations by pixel displacement (SGR, section 4.2)"
    quantities = (
        Quantity(name="perturbations", title="witnesses"),
        Quantity(name="images", title="images"),
        Quantity(name="covariance_error_{c}_{d}", title="standard error of the covariance, channels {c} and {d}"),
        Quantity(
            name="data_covariance_error_{c}_{d}",
            title="standard error of the covariance of the images, channels {c} and {d}",
        ),
        Quantity(name="covariance_{c}_{d}", title="covariance, channels {c} and {d}"),
        Quantity(name="data_covariance_{c}_{d}", title="covariance of the images, channels {c} and {d}"),
        Quantity(name="decay_length_{c}_{d}", title="decay length, channels {c} and {d}"),
        Quantity(name="data_decay_length_{c}_{d}", title="decay length of the images, channels {c} and {d}"),
    )

    witnesses: str
    matrix: NonNegativeInt = 1024
    """Largest number of pixel values for which the whole matrices are kept: 3072 keeps CIFAR's, of 38 MB each."""

    def passes(self, images: int, classes: int) -> Passes:
        return Passes()

    def seen(self, images: Images, witnesses: Images, step: Step) -> Observation:
        found, mean = _found(witnesses), _mean(images)
        if not len(found):
            raise UnsupportedError(f"expected witnesses of '{self.witnesses}' to measure the covariance of, got none")
        size = memory.rows(ENTRIES, padded_size(images.shape))
        everything = torch.arange(len(images), device=found.device)

        def perturbations(rows: Tensor) -> Tensor:
            step(int(rows[-1]), 2 * len(images))
            return witnesses.select(rows).pixels.double() - images.select(rows).pixels.double()

        def centred(rows: Tensor) -> Tensor:
            step(len(images) + int(rows[-1]), 2 * len(images))
            return images.select(rows).pixels.double() - mean

        sets: dict[str, tuple[str, Tensor, Read]] = {
            "perturbations": ("", found, perturbations),
            "images": ("data_", everything, centred),
        }
        statistics, arrays = [], {}
        for name, (prefix, rows, read) in sets.items():
            products = Products(read, math.prod(images.shape), self.matrix)
            functions = covariance_functions(rows, products, size)
            statistics += [Statistic(name, 0, len(rows)), *_statistics(prefix, *functions)]
            if products.total is not None:
                arrays[name] = (products.total / len(rows)).float()
        return Observation(statistics, arrays=arrays)


class Products:
    """Reads images as `read` does, and adds up x x^T of those that it has read, as vectors of `d` numbers, (d, d)
    float64; nothing where these are more than `most`."""

    def __init__(self, read: Read, d: int, most: int) -> None:
        self._read = read
        self.total = torch.zeros(d, d, dtype=torch.float64) if d <= most else None

    def __call__(self, rows: Tensor) -> Tensor:
        part = self._read(rows)
        if self.total is not None:
            x = part.flatten(1)
            self.total = self.total.to(x.device).addmm_(x.T, x)
        return part


def covariance_functions(rows: Tensor, read: Read, size: int) -> tuple[Tensor, Tensor, Tensor]:
    """Displacements (R,) in pixels, CovFun of SGR's eq. 16 there and its standard error, (C, C, R) float64; the error
    of a single image is NaN. Each image is read once, `size` at a time."""
    blocks, found = rows.tensor_split(min(BLOCKS, len(rows))), []
    for block in blocks:
        moments, pairs = displacement_moments(read(part) for part in block.split(size))
        height, width = ((n + 1) // 2 for n in pairs.shape)
        places, means = ring_means(moments, torch.hypot(*displacements((height, width))), pairs)
        found.append(means)
    functions = torch.stack(found)
    shares = functions.new_tensor([len(block) / len(rows) for block in blocks]).view(-1, 1, 1, 1)
    mean = (shares * functions).sum(0)
    squared = (shares * (functions - mean) ** 2).sum(0)
    return places, mean, (squared / (len(blocks) - 1)).sqrt() if len(blocks) > 1 else torch.full_like(mean, torch.nan)


def _found(witnesses: Images) -> Tensor:
    """The rows of the images that have one."""
    return torch.cat([some.pixels.flatten(1).isfinite().all(1) for some in witnesses.blocks()]).nonzero()[:, 0]


def _mean(images: Images) -> Tensor:
    """The mean image, (C, H, W) float64."""
    total = torch.zeros(images.shape, dtype=torch.float64, device=images.device)
    for some in images.blocks():
        total += some.pixels.sum(0, dtype=torch.float64)
    return total / len(images)


def decay_length(places: Tensor, values: Tensor) -> float:
    """Where a function, linear between `values` (R,), first falls to 1/e of its first value; NaN if nowhere."""
    level = values[0] / math.e
    below = (values <= level).nonzero()[:, 0]
    if values[0] <= 0 or not len(below):
        return math.nan
    i = int(below[0])
    share = (values[i - 1] - level) / (values[i - 1] - values[i])
    return float(places[i - 1] + share * (places[i] - places[i - 1]))


def _statistics(prefix: str, places: Tensor, functions: Tensor, errors: Tensor) -> Iterator[Statistic]:
    for c in range(len(functions)):
        for d in range(c, len(functions)):
            for quantity, values in (("covariance", functions[c, d]), ("covariance_error", errors[c, d])):
                for at, value in zip(places.tolist(), values.tolist(), strict=True):
                    if math.isfinite(value):
                        yield Statistic(f"{prefix}{quantity}_{c}_{d}", at, value)
            length = decay_length(places, functions[c, d])
            if math.isfinite(length):
                yield Statistic(f"{prefix}decay_length_{c}_{d}", 0, length)
