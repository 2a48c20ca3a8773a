"""Images: ids, pixels, labels. The readers of data sets are in robusteval/data."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from robusteval.core.errors import UserError
from robusteval.core.reading import AS_IT_IS, Reading
from robusteval.core.streams import derive_seed


@dataclass(frozen=True, eq=False)
class Images:
    """N labelled images.

    ids: N distinct names that survive every join; pixels (N, C, H, W) floating point in [0, 1];
    labels (N,) int64; class_names: one a class, or empty where the data has none; class_count: how many classes the
    labels count through, None where the data does not say; reading: how they were read, where that was from a file.
    """

    ids: tuple[str, ...]
    pixels: Tensor
    labels: Tensor
    class_names: tuple[str, ...] = ()
    source: str = ""
    class_count: int | None = None
    reading: Reading = AS_IT_IS

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def shape(self) -> tuple[int, int, int]:
        channels, height, width = self.pixels.shape[1:]
        return channels, height, width

    def select(self, rows: Tensor) -> Images:
        """Some of the images (indices or a mask), in the order of `rows`."""
        chosen = torch.arange(len(self))[rows.cpu()]
        ids = tuple(self.ids[i] for i in chosen.tolist())
        on = chosen.to(self.pixels.device)
        return replace(self, ids=ids, pixels=self.pixels[on], labels=self.labels[on])

    def first(self, count: int) -> Images:
        """The first of the images, `count` of them at most."""
        return self.select(torch.arange(min(count, len(self))))

    def sample(self, count: int, seed: int) -> Images:
        """`count` of the images, drawn without replacement and in their own order: the same for the same seed, in
        whatever order they are. Raises UserError where there are not as many."""
        rows = drawn_rows(self.ids, count, seed, self.source)
        return replace(self.select(torch.tensor(rows)), source=drawn_from(self.source, seed))

    def to(self, device: torch.device | str, dtype: torch.dtype) -> Images:
        return replace(self, pixels=self.pixels.to(device, dtype), labels=self.labels.to(device))

    def by_id(self) -> Images:
        """The same images in the order of their ids."""
        return self.select(torch.tensor(sorted(range(len(self)), key=self.ids.__getitem__)))

    def fingerprint(self) -> str:
        """sha256 of ids, labels and pixels, whatever the order of the images."""
        digest = hashlib.sha256()
        ordered = self.by_id()
        pixels = ordered.pixels.cpu().to(torch.float32)
        for image_id, label, image in zip(ordered.ids, ordered.labels.tolist(), pixels, strict=True):
            digest.update(f"{image_id}:{label}:{tuple(image.shape)}".encode() + image.numpy().tobytes())
        return digest.hexdigest()

    def checked(self) -> Images:
        """These images if they keep their promises; else UserError says what is wrong."""
        if not self.ids:
            raise UserError(f"expected at least one image, got an empty selection of {self.source}")
        if len(set(self.ids)) != len(self.ids):
            raise UserError(f"expected distinct image ids in {self.source}, got repeated ones")
        if self.pixels.dim() != 4 or len(self.pixels) != len(self) or not self.pixels.is_floating_point():
            raise UserError(
                f"expected floating-point pixels (N, C, H, W) for {len(self)} images in {self.source}, "
                f"got {tuple(self.pixels.shape)} {self.pixels.dtype}"
            )
        if not self.pixels.numel():
            raise UserError(f"expected images with pixels in {self.source}, got shape {tuple(self.pixels.shape)}")
        if self.labels.shape != (len(self),) or self.labels.dtype != torch.int64:
            raise UserError(
                f"expected {len(self)} labels of int64 in {self.source}, got shape {tuple(self.labels.shape)} "
                f"{self.labels.dtype}"
            )
        low, high = self.pixels.min().item(), self.pixels.max().item()
        if not (low >= 0 and high <= 1):
            raise UserError(f"expected pixels in [0, 1] in {self.source}, got [{low:g}, {high:g}]{_hint(low, high)}")
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
