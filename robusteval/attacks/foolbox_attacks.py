"""DeepFool, Carlini-Wagner and Boundary from foolbox.

Thin adapters. Traps that are closed here: foolbox draws from torch's global generator (seeded and restored); returns
black pictures where Carlini-Wagner fails (the image itself is returned); and stops the whole batch when Boundary
has no start for one image (starts are searched per image; one without returns itself).
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from pydantic import Field, PositiveFloat, PositiveInt
from torch import Tensor

from robusteval.attacks.base import Attack
from robusteval.classifier import Classifier
from robusteval.images import Images
from robusteval.norms import Norm
from robusteval.streams import Streams


class FoolboxAttack(Attack):
    """A minimum-distance attack of foolbox."""

    fixed_budget = False
    batch_independent = False

    def found(self, attack: Any, classifier: Classifier, images: Images, streams: Streams, **more: Any) -> Tensor:
        """What foolbox's attack returns for the images, (N, C, H, W), whatever that is worth."""
        foolbox = library()
        with seeded(streams.seed, images.pixels):
            model = foolbox.PyTorchModel(classifier.as_module(), bounds=(0, 1), device=images.pixels.device)
            result: Tensor = attack.run(model, images.pixels, images.labels, **more)
        return result.detach().to(images.pixels).clamp(0, 1)


class DeepFool(FoolboxAttack):
    """Steps to the nearest boundary of the linearised model (Moosavi-Dezfooli et al. 2016).

    Defaults as in SGR, table 2. Batch-dependent: foolbox goes on for the whole batch until all are fooled.
    """

    name = "deepfool"
    summary = "nearest boundary of the linearised model (Moosavi-Dezfooli et al. 2016; foolbox)"
    norms = (Norm.L2, Norm.LINF)

    steps: PositiveInt = 100
    overshoot: PositiveFloat = 0.02
    candidates: int = Field(default=10, ge=2)
    """How many of the likeliest classes are considered."""

    def run(self, classifier: Classifier, images: Images, budget: float | None, streams: Streams) -> Tensor:
        attacks = library().attacks
        kind = attacks.L2DeepFoolAttack if self.norm is Norm.L2 else attacks.LinfDeepFoolAttack
        attack = kind(steps=self.steps, candidates=self.candidates, overshoot=self.overshoot)
        return self.found(attack, classifier, images, streams)


class CarliniWagner(FoolboxAttack):
    """Adam on distance plus a weighted margin, with a binary search for the weight (Carlini & Wagner 2017).

    Batch-dependent: foolbox aborts a search when the loss of the whole batch stops falling.
    """

    name = "carlini-wagner"
    summary = "smallest L2 perturbation by optimisation (Carlini & Wagner 2017; foolbox)"
    norms = (Norm.L2,)

    steps: PositiveInt = 1000
    binary_search_steps: PositiveInt = 9
    step_size: PositiveFloat = 0.01

    def run(self, classifier: Classifier, images: Images, budget: float | None, streams: Streams) -> Tensor:
        attacks = library().attacks
        attack = attacks.L2CarliniWagnerAttack(
            steps=self.steps, binary_search_steps=self.binary_search_steps, stepsize=self.step_size
        )
        found = self.found(attack, classifier, images, streams)
        failed = (found.flatten(1) == 0).all(1)
        return torch.where(failed[:, None, None, None], images.pixels, found)


class Boundary(FoolboxAttack):
    """Walks along the decision boundary towards the image; needs decisions only, no gradients or scores.

    Brendel et al. (2018). Starts are blends of the image with uniform noise, made here. Batch-dependent: all
    images share one stream of proposals.
    """

    name = "boundary"
    summary = "gradient-free walk along the decision boundary (Brendel et al. 2018; foolbox)"
    norms = (Norm.L2,)

    steps: PositiveInt = 5000
    tries: PositiveInt = 50
    """Noise pictures tried as a start for each image."""

    def run(self, classifier: Classifier, images: Images, budget: float | None, streams: Streams) -> Tensor:
        attacks = library().attacks
        starts, rows = self._starts(classifier, images, streams)
        result = images.pixels.clone()
        if len(rows):
            view, chosen, own = classifier.select(rows), images.select(rows), streams.select(rows)
            attack = attacks.BoundaryAttack(steps=self.steps)
            result[rows] = self.found(attack, view, chosen, own, starting_points=starts[rows])
        return result

    def _starts(self, classifier: Classifier, images: Images, streams: Streams) -> tuple[Tensor, Tensor]:
        """Misclassified pictures, and the images that have one: noise, blended back as far as it stays wrong."""
        starts = images.pixels.clone()
        rows = torch.arange(len(images), device=starts.device)
        for _ in range(self.tries):
            noise = streams.select(rows).uniform(*images.shape)
            wrong = classifier.select(rows).predict(noise).argmax(1) != images.labels[rows]
            starts[rows[wrong]] = noise[wrong]
            rows = rows[~wrong]
            if not len(rows):
                break
        kept = torch.ones(len(images), dtype=torch.bool, device=starts.device)
        kept[rows] = False
        found = kept.nonzero()[:, 0]
        for _ in range(10 if len(found) else 0):
            halfway = (starts[found] + images.pixels[found]) / 2
            wrong = classifier.select(found).predict(halfway).argmax(1) != images.labels[found]
            starts[found[wrong]] = halfway[wrong]
        return starts, found


def library() -> Any:
    """foolbox, imported when it is needed and without its warnings about old scipy names."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import foolbox
    return foolbox


@contextmanager
def seeded(seed: int, like: Tensor) -> Iterator[None]:
    """For libraries that draw from torch's global generator: seed it, and leave it as it was."""
    devices = [like.device] if like.device.type == "cuda" else []
    with torch.random.fork_rng(devices), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.manual_seed(seed)
        yield
