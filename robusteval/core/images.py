"""Images: ids, pixels, labels. The readers of data sets are in robusteval/data."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import torch
from torch import Tensor

from robusteval.core.errors import UserError
from robusteval.core.reading import AS_IT_IS, Reading
from robusteval.core.stored import BLOCK, StoredPixels
from robusteval.core.streams import derive_seed


@dataclass(frozen=True, eq=False)
class Images:
    """N labelled images.

    ids: N distinct names that survive every join; content: their pixels (N, C, H, W), floating point in [0, 1], in
    memory or stored until they are asked for; labels (N,) int64; class_names: one a class, or empty where the data has
    none; class_count: how many classes the labels count through, None where the data does not say; reading: how they
    were read, where that was from a file.
    """

    ids: tuple[str, ...]
    content: Tensor | StoredPixels
    labels: Tensor
    class_names: tuple[str, ...] = ()
    source: str = ""
    class_count: int | None = None
    reading: Reading = AS_IT_IS

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def pixels(self) -> Tensor:
        """(N, C, H, W); read where they are stored, each time that they are asked for."""
        return self.content.read() if isinstance(self.content, StoredPixels) else self.content

    @property
    def shape(self) -> tuple[int, int, int]:
        channels, height, width = self.content.shape[1:]
        return channels, height, width

    @property
    def device(self) -> torch.device:
        return self.content.device

    @property
    def dtype(self) -> torch.dtype:
        return self.content.dtype

    def loaded(self) -> Images:
        """The same with their pixels in memory."""
        return replace(self, content=self.pixels)

    def without_pixels(self) -> Images:
        """The same with NaN for each pixel, which takes no memory."""
        nothing = torch.full((1, 1, 1, 1), torch.nan, device=self.device, dtype=self.dtype)
        return replace(self, content=nothing.expand(self.content.shape))

    def blocks(self, size: int | None = None) -> Iterator[Images]:
        """The same in their order, so many at a time, in memory; as many as are read well at once if nobody says."""
        for rows in torch.arange(len(self)).split(size or max(1, BLOCK // max(1, math.prod(self.shape)))):
            yield self.select(rows).loaded()

    def select(self, rows: Tensor) -> Images:
        """Some of the images (indices or a mask), in the order of `rows`."""
        chosen = rows.cpu().nonzero()[:, 0] if rows.dtype == torch.bool else rows.cpu()
        ids, on = tuple(self.ids[i] for i in chosen.tolist()), chosen.to(self.device)
        return replace(self, ids=ids, content=self.content[on], labels=self.labels[on])

    def first(self, count: int) -> Images:
        """The first of the images, `count` of them at most."""
        return self.select(torch.arange(min(count, len(self))))

    def sample(self, count: int, seed: int) -> Images:
        """`count` of the images, drawn without replacement and in their own order: the same for the same seed, in
        whatever order they are. Raises UserError where there are not as many."""
        rows = drawn_rows(self.ids, count, seed, self.source)
        return replace(self.select(torch.tensor(rows)), source=drawn_from(self.source, seed))

    def to(self, device: torch.device | str, dtype: torch.dtype) -> Images:
        return replace(self, content=self.content.to(device, dtype), labels=self.labels.to(device))

    def by_id(self) -> Images:
        """The same images in the order of their ids."""
        if all(one <= other for one, other in pairwise(self.ids)):
            return self
        return self.select(torch.tensor(sorted(range(len(self)), key=self.ids.__getitem__)))

    def fingerprint(self) -> str:
        """sha256 of ids, labels and pixels, whatever the order of the images."""
        digest, shape = hashlib.sha256(), tuple(self.shape)
        for block in self.by_id().blocks():
            pixels = block.pixels.cpu().to(torch.float32).numpy()
            for image_id, label, image in zip(block.ids, block.labels.tolist(), pixels, strict=True):
                digest.update(f"{image_id}:{label}:{shape}".encode() + image.tobytes())
        return digest.hexdigest()

    def checked(self) -> Images:
        """These images if they keep their promises; else UserError says what is wrong."""
        if not self.ids:
            raise UserError(f"expected at least one image, got an empty selection of {self.source}")
        if len(set(self.ids)) != len(self.ids):
            raise UserError(f"expected distinct image ids in {self.source}, got repeated ones")
        shape, dtype = tuple(self.content.shape), self.dtype
        if len(shape) != 4 or shape[0] != len(self) or not dtype.is_floating_point:
            raise UserError(
                f"expected floating-point pixels (N, C, H, W) for {len(self)} images in {self.source}, "
                f"got {shape} {dtype}"
            )
        if not math.prod(shape):
            raise UserError(f"expected images with pixels in {self.source}, got shape {shape}")
        if self.labels.shape != (len(self),) or self.labels.dtype != torch.int64:
            raise UserError(
                f"expected {len(self)} labels of int64 in {self.source}, got shape {tuple(self.labels.shape)} "
                f"{self.labels.dtype}"
            )
        if isinstance(self.content, Tensor):  # what is stored was looked at when it was
            check_range(self.content.min().item(), self.content.max().item(), self.source)
        self._check_classes()
        return self

    @property
    def classes_known(self) -> int | None:
        """How many classes the data speaks of: as it says, or one a name; None where it has neither."""
        return self.class_count or len(self.class_names) or None

    def _check_classes(self) -> None:
        """Whether every label has a class, where the data says what its classes are."""
        count = self.classes_known
        wrong = (self.labels < 0) | (self.labels >= count) if count else self.labels < 0
        if wrong.any():
            i = int(wrong.nonzero()[0])
            wanted = f"from 0 to {count - 1}, one of the classes of the data," if count else "from 0"
            raise UserError(
                f"expected labels {wanted} in {self.source}, got {int(self.labels[i])} for image {self.ids[i]}"
            )


def check_range(low: float, high: float, source: str) -> None:
    """Raises UserError, with what probably brings them there, unless pixels between these two are in [0, 1]."""
    if not (low >= 0 and high <= 1):
        raise UserError(f"expected pixels in [0, 1] in {source}, got [{low:g}, {high:g}]{_hint(low, high)}")


def drawn_rows(ids: Sequence[str], count: int, seed: int, source: str) -> list[int]:
    """The places of `count` images, drawn without replacement and in their own order: the same images for the same
    seed, in whatever order they are. Raises UserError where there are not as many."""
    if not 1 <= count <= len(ids):
        raise UserError(f"expected --sample from 1 to {len(ids)}, the images of {source}, got {count}")
    drawn = torch.Generator().manual_seed(derive_seed(seed, "sample of images"))
    by_id = sorted(range(len(ids)), key=ids.__getitem__)
    return sorted(by_id[i] for i in torch.randperm(len(ids), generator=drawn)[:count].tolist())


def drawn_from(source: str, seed: int) -> str:
    """What images are called that were drawn from a data set."""
    return f"{source} (drawn at random, seed {seed})"


def _hint(low: float, high: float) -> str:
    """What brings numbers between these two into [0, 1], probably."""
    if not (math.isfinite(low) and math.isfinite(high)):
        return ""
    if low < 0:
        halves = "; from -1 to 1: (x + 1) / 2, --mean 0.5, --std 0.5" if low >= -1 and high <= 1 else ""
        return f"; undo the normalisation in the file, x * std + mean, and put it into --mean and --std{halves}"
    white = 255 if high <= 255 else 65535 if high <= 65535 else None
    return f"; divide by the number that stands for white: --scale {f'{white}, if it is that' if white else 'NUMBER'}"
