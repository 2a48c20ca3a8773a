"""L-BFGS: the least penalty * |delta|^2 + cross-entropy to a target class, by a box-constrained quasi-Newton method.

Szegedy et al. (2014), section 4.1, with scipy's L-BFGS-B. The penalty is searched for each image: divided until the
minimiser is misclassified, multiplied until it is not, then halved in logarithm between the two. Deviations: |delta|
is squared, as in the library that Moments took the attack from; every image that the solver evaluates may be the
witness, not only its last one; any misclassification counts, not only the target; the closest witness is drawn towards
the image at the end. Moments, which reports this attack, gives no settings.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import NonNegativeInt, PositiveFloat, PositiveInt
from torch import Tensor

from robusteval.attacks.base import Candidates, MinimumDistanceAttack
from robusteval.attacks.search.active import keep
from robusteval.attacks.search.losses import cross_entropy
from robusteval.attacks.search.segment import shrink
from robusteval.attacks.search.targets import Target, choose
from robusteval.attacks.solvers import Floats, minimise_in_box
from robusteval.core.images import Images
from robusteval.core.norms import Norm, column
from robusteval.core.passes import Passes
from robusteval.core.streams import Streams
from robusteval.models.answers import misclassified
from robusteval.models.classifier import Classifier

FACTOR = 4.0
"""What the penalty is multiplied or divided by until it is bracketed."""


class LBFGS(MinimumDistanceAttack):
    """Box-constrained L-BFGS towards a wrong class, with a search for the penalty of each image.

    Costs up to `searches` times about `iterations` forwards and backwards, and `refine` + 3 forwards.
    """

    name = "lbfgs"
    title = "L-BFGS"
    summary = "smallest L2 perturbation by box-constrained L-BFGS (Szegedy et al. 2014; scipy)"
    norms = (Norm.L2,)

    target: Literal["random", "second-best"] = "second-best"
    """A wrong class drawn for each image, or its likeliest one."""
    searches: PositiveInt = 10
    """Penalties tried for each image."""
    penalty: PositiveFloat = 1.0
    """The first of them."""
    iterations: PositiveInt = 20
    """Of the solver, for each penalty."""
    refine: NonNegativeInt = 6
    """Evaluations of the final search between the image and its witness."""

    def passes(self, images: int, classes: int) -> Passes:
        return Passes.both(self.searches * self.iterations) * images

    @property
    def says(self) -> str:
        return f", {self.target} target"

    def closest(self, classifier: Classifier, images: Images, streams: Streams) -> Candidates:
        clean = classifier.predict(images.pixels)
        targets = choose(Target(self.target), images.labels, classifier.num_classes, clean, streams)
        best = images.pixels.clone()
        rows = (clean.argmax(1) == images.labels).nonzero()[:, 0]
        search = _Search(*keep(rows, classifier, images, targets))
        penalty = torch.full((len(rows),), self.penalty, dtype=torch.float64, device=best.device)
        works, fails = torch.zeros_like(penalty), torch.full_like(penalty, torch.inf)
        for _ in range(self.searches if len(rows) else 0):
            fooled = search.solve(penalty, self.iterations)
            works, fails = torch.where(fooled, penalty, works), torch.where(fooled, fails, penalty)
            bracketed = (works > 0) & fails.isfinite()
            penalty = torch.where(bracketed, (works * fails).sqrt(), torch.where(fooled, FACTOR, 1 / FACTOR) * penalty)
        best[rows] = search.best
        return Candidates(shrink(classifier, images, best, self.refine))


class _Search:
    """The closest misclassified images among all that the solvers evaluated, (N, C, H, W), and their distances."""

    def __init__(self, classifier: Classifier, images: Images, targets: Tensor) -> None:
        self.classifier, self.images, self.targets = classifier, images, targets
        self.best = images.pixels.clone()
        self.distance = torch.full_like(images.pixels[:, 0, 0, 0], torch.inf, dtype=torch.float64)

    def solve(self, penalty: Tensor, iterations: int) -> Tensor:
        """Minimise at one penalty (N,) each, from the image; whether the last evaluated image, the minimiser or next
        to it, was misclassified, (N,)."""
        fooled = torch.zeros_like(self.targets, dtype=torch.bool)

        def evaluate(chosen: NDArray[np.int64], points: Floats) -> tuple[Floats, Floats]:
            rows = torch.from_numpy(chosen).to(fooled.device)
            view, images, targets = keep(rows, self.classifier, self.images, self.targets)
            candidates = torch.from_numpy(points).to(images.pixels).view_as(images.pixels)
            gradient, gain, logits = view.gradient(candidates, lambda z: cross_entropy(z, images.labels, targets))
            delta = candidates.double() - images.pixels.double()
            size = Norm.L2.size(delta)
            wrong = misclassified(logits, images.labels)
            fooled[rows] = wrong
            closer = wrong & (size < self.distance[rows])
            self.best[rows[closer]], self.distance[rows[closer]] = candidates[closer], size[closer]
            values = penalty[rows] * size**2 - gain.double()
            slopes = 2 * column(penalty[rows], delta) * delta - gradient.double()
            return values.cpu().numpy(), slopes.flatten(1).cpu().numpy()

        minimise_in_box(evaluate, self.images.pixels.double().flatten(1).cpu().numpy(), iterations)
        return fooled
