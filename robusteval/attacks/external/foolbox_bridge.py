"""The bridge to foolbox (Rauber et al. 2017, 2020): its attacks behind the promises of this package.

The algorithms are foolbox's. What is different here, because each has lost somebody a result:

- an image that is misclassified already is returned as it is, and costs one forward;
- labels are always passed, never targets, which foolbox's DeepFool would read as labels;
- where foolbox reports a failure as a black image, or gives one that is not finite, the image itself is returned;
- starting points are searched for each image; foolbox stops the whole batch when one image has none;
- where foolbox breaks down on a batch, the batch is halved until the images that cause it are alone, and only those
  return themselves; errors from elsewhere, such as the model's own, are not taken for that.
"""

from __future__ import annotations

import warnings
from abc import ABC
from types import TracebackType
from typing import Any, ClassVar

import torch
from pydantic import PositiveInt
from torch import Tensor

from robusteval.attacks.base import Candidates, MinimumDistanceAttack
from robusteval.attacks.external.libraries import guarded, or_itself
from robusteval.attacks.search.active import keep
from robusteval.core.images import Images
from robusteval.core.norms import Norm, column
from robusteval.core.streams import Streams
from robusteval.models.classifier import Classifier
from robusteval.models.recording import passed_back

BREAKDOWNS = (AssertionError, IndexError, ValueError, ZeroDivisionError)
"""What foolbox raises where it cannot go on with an image; anything else, and these from elsewhere, is a bug."""


class FoolboxAttack(MinimumDistanceAttack, ABC):
    """An attack of foolbox whose arguments are the fields of this class, renamed where a field has an alias.

    Batch-dependent: foolbox draws one random stream for the whole batch, and stops when all of it is done.
    """

    batch_independent = False

    kinds: ClassVar[dict[Norm, str]]
    """The name of foolbox's class for each norm."""
    black_is_failure: ClassVar[bool] = False
    """Whether foolbox returns black images where it found nothing."""

    def closest(self, classifier: Classifier, images: Images, streams: Streams) -> Candidates:
        candidates = images.pixels.clone()
        rows = (~classifier.misclassifies(candidates, images.labels)).nonzero()[:, 0]
        if len(rows):
            candidates[rows] = self.search(*keep(rows, classifier, images, streams))
        return Candidates(candidates)

    def search(self, classifier: Classifier, images: Images, streams: Streams) -> Tensor:
        """Images for images that are classified correctly, (N, C, H, W)."""
        return self.found(classifier, images, streams)

    def arguments(self) -> dict[str, Any]:
        """What foolbox's class takes."""
        ours = {*MinimumDistanceAttack.model_fields, "tries"}
        return self.model_dump(by_alias=True, exclude=ours)

    def of_foolbox(self, count: int) -> Any:
        """foolbox's attack for a batch of `count` images."""
        return getattr(library().attacks, self.kinds[self.norm])(**self.arguments())

    def found(self, classifier: Classifier, images: Images, streams: Streams, starts: Tensor | None = None) -> Tensor:
        """What foolbox finds, from `starts` (N, C, H, W) if it wants any; in halves where it breaks down."""
        attack = self.of_foolbox(len(images))
        try:
            with guarded(streams.seed, images.pixels), passed_back(classifier.name):
                model = library().PyTorchModel(classifier.as_module(), bounds=(0, 1), device=images.pixels.device)
                more = {} if starts is None else {"starting_points": _eager(starts)}
                found: Tensor = attack.run(model, images.pixels, images.labels, **more)
        except BREAKDOWNS as error:
            if not _is_foolbox(error.__traceback__):
                raise
            if len(images) == 1:
                return images.pixels
            halves = torch.arange(len(images)).tensor_split(2)
            return torch.cat([self.found(*keep(h, classifier, images, streams, starts)) for h in halves])
        usable = (found != 0).flatten(1).any(1) if self.black_is_failure else None
        return or_itself(found, images.pixels, usable)


class StartingAttack(FoolboxAttack, ABC):
    """An attack that walks to the image from a misclassified image, which is drawn for each image alone."""

    tries: PositiveInt = 50
    """How many images are drawn: black and white pixels, a random share of them white. An image whose label none of
    them leaves is given up."""

    def search(self, classifier: Classifier, images: Images, streams: Streams) -> Tensor:
        starts, rows = self.starts(classifier, images, streams)
        found = images.pixels.clone()
        if len(rows):
            found[rows] = self.found(*keep(rows, classifier, images, streams, starts))
        return found

    def starts(self, classifier: Classifier, images: Images, streams: Streams) -> tuple[Tensor, Tensor]:
        """Misclassified images (N, C, H, W), and the indices (M,) of the images that have one."""
        starts = images.pixels.clone()
        rows = torch.arange(len(images), device=starts.device)
        without = torch.ones_like(images.labels, dtype=torch.bool)
        for _ in range(self.tries):
            view, own, labels = keep(rows, classifier, streams, images.labels)
            draws = own.uniform(*images.shape)
            candidates = (draws < column(own.uniform(), draws)).to(draws)
            wrong = view.misclassifies(candidates, labels)
            starts[rows[wrong]] = candidates[wrong]
            without[rows[wrong]] = False
            rows = rows[~wrong]
            if not len(rows):
                break
        return starts, (~without).nonzero()[:, 0]


def library() -> Any:
    """foolbox, imported when it is needed and without its warnings about old scipy names."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import foolbox
    return foolbox


def _eager(candidates: Tensor) -> Any:
    """As foolbox's own tensors: some of its attacks do not convert their starting points."""
    import eagerpy

    return eagerpy.astensor(candidates)


def _is_foolbox(trace: TracebackType | None) -> bool:
    """Whether an error arose in foolbox (or eagerpy, its tensors), not in what it called."""
    module = ""
    while trace is not None:
        module, trace = trace.tb_frame.f_globals.get("__name__", ""), trace.tb_next
    return module.split(".")[0] in {"foolbox", "eagerpy"}
