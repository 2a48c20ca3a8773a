"""The minimum-distance attacks of foolbox (Rauber et al. 2017, 2020) that follow gradients, and their settings.

The algorithms, and the defaults where nothing else is said, are foolbox's; foolbox_bridge.py runs them and says what it
guards against. Where a deviation changes an algorithm, its class says so.
"""

from __future__ import annotations

from abc import ABC
from typing import Any, ClassVar, Literal

from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt
from torch import Tensor

from robusteval.attacks.external.foolbox_bridge import FoolboxAttack, StartingAttack
from robusteval.attacks.search.active import keep
from robusteval.core.errors import UnsupportedError
from robusteval.core.images import Images
from robusteval.core.norms import Norm
from robusteval.core.passes import USUAL, Passes
from robusteval.core.streams import Streams
from robusteval.models.classifier import Classifier


class FoolboxDeepFool(FoolboxAttack):
    """Steps to the nearest boundary of the linearised model; defaults as in SGR, table 2.

    Costs about 9 forwards and backwards a step with 10 candidates, for all images of the batch until the last is done.
    """

    name = "foolbox-deepfool"
    title = "DeepFool (foolbox)"
    summary = "nearest boundary of the linearised model (Moosavi-Dezfooli et al. 2016; foolbox)"
    kinds: ClassVar = {Norm.L2: "L2DeepFoolAttack", Norm.LINF: "LinfDeepFoolAttack"}
    norms = tuple(kinds)

    steps: PositiveInt = 100
    overshoot: PositiveFloat = 0.02
    candidates: int = Field(default=10, ge=2)
    """How many of the likeliest classes are considered."""

    def passes(self, images: int, classes: int) -> Passes:
        steps = min(self.steps, USUAL)
        return Passes.both(steps * (min(self.candidates, classes) - 1)) * images


class PenaltyAttack(FoolboxAttack, ABC):
    """Descends on distance plus a weighted margin, with a binary search for the weight.

    A search ends early when the loss of the whole batch stops falling.
    """

    black_is_failure = True

    steps: PositiveInt = 1000
    binary_search_steps: PositiveInt = 9
    confidence: NonNegativeFloat = 0.0
    """By how much the logits of an image must be wrong for it to count."""
    initial_const: PositiveFloat = 1e-3
    """The first weight of the margin."""

    def passes(self, images: int, classes: int) -> Passes:
        return Passes.both(self.steps * self.binary_search_steps) * images


class CarliniWagner(PenaltyAttack):
    """Adam on squared L2, in coordinates that cannot leave the box."""

    name = "carlini-wagner"
    title = "Carlini-Wagner"
    summary = "smallest L2 perturbation by optimisation (Carlini & Wagner 2017; foolbox)"
    kinds: ClassVar = {Norm.L2: "L2CarliniWagnerAttack"}
    norms = tuple(kinds)

    step_size: PositiveFloat = Field(default=0.01, serialization_alias="stepsize")


class FoolboxDDN(FoolboxAttack):
    """Unit steps along the gradient, on a sphere that shrinks where the image is misclassified and else grows."""

    name = "foolbox-ddn"
    title = "DDN (foolbox)"
    summary = "decoupled direction and norm (Rony et al. 2019; foolbox)"
    kinds: ClassVar = {Norm.L2: "DDNAttack"}
    norms = tuple(kinds)

    steps: PositiveInt = 100
    init_epsilon: PositiveFloat = 1.0
    """The first radius."""
    gamma: float = Field(default=0.05, gt=0, lt=1)
    """By how much a radius grows or shrinks, relative."""

    def passes(self, images: int, classes: int) -> Passes:
        return Passes.both(self.steps) * images


class FoolboxFMN(StartingAttack):
    """DDN's idea in any norm, with radii from the linearised model until the first success.

    Deviations: those radii may approach the boundary for ever without a crossing, and an image for which that happens
    is attacked once more, from a starting point; in L2 images are projected on the ball, which foolbox 3.3.4 forgets.
    """

    name = "foolbox-fmn"
    title = "FMN (foolbox)"
    summary = "fast minimum norm (Pintor et al. 2021; foolbox)"
    kinds: ClassVar = {
        Norm.L0: "L0FMNAttack",
        Norm.L1: "L1FMNAttack",
        Norm.L2: "L2FMNAttack",
        Norm.LINF: "LInfFMNAttack",
    }
    norms = tuple(kinds)

    steps: PositiveInt = 100
    max_stepsize: PositiveFloat = 1.0
    """The first step's length (L2); it falls to a hundredth."""
    gamma: float = Field(default=0.05, gt=0, lt=1)
    """By how much a radius grows or shrinks at first, relative."""

    def passes(self, images: int, classes: int) -> Passes:
        return Passes.both(self.steps) * images

    def search(self, classifier: Classifier, images: Images, streams: Streams) -> Tensor:
        found = self.found(classifier, images, streams)
        missed = ~classifier.misclassifies(found, images.labels)
        if missed.any():
            found[missed] = super().search(*keep(missed, classifier, images, streams))
        return found

    def of_foolbox(self, count: int) -> Any:
        attack = super().of_foolbox(count)
        if self.norm is Norm.L2:
            attack.project = _project_l2
        return attack


class EAD(PenaltyAttack):
    """Proximal gradient steps on L1 plus squared L2.

    Deviation: of the images on the way the closest in L1 is kept, where foolbox keeps the closest in the elastic net
    by default.
    """

    name = "ead"
    title = "EAD"
    summary = "elastic-net attack (Chen et al. 2018; foolbox)"
    kinds: ClassVar = {Norm.L1: "EADAttack"}
    norms = tuple(kinds)

    step_size: PositiveFloat = Field(default=0.01, serialization_alias="initial_stepsize")
    regularization: PositiveFloat = 1e-2
    """The weight of L1."""
    decision_rule: Literal["L1", "EN"] = "L1"
    """Which images count as closer: in L1, or in the elastic net."""

    def passes(self, images: int, classes: int) -> Passes:
        """A search ends when the loss stops falling: long before its last step, as a rule."""
        return Passes(0.75, 0.375) * (self.steps * self.binary_search_steps * images)


class BrendelBethge(StartingAttack):
    """Walks along the boundary, each step a quadratic program in a trust region around the last image.

    foolbox needs the package numba for it, and lets the trust region grow with the batch; here it does not.
    """

    name = "brendel-bethge"
    title = "Brendel-Bethge"
    summary = "gradient walk along the decision boundary (Brendel et al. 2019; foolbox, needs numba)"
    kinds: ClassVar = {
        Norm.L0: "L0BrendelBethgeAttack",
        Norm.L1: "L1BrendelBethgeAttack",
        Norm.L2: "L2BrendelBethgeAttack",
        Norm.LINF: "LinfinityBrendelBethgeAttack",
    }
    norms = tuple(kinds)

    steps: PositiveInt = 1000
    overshoot: float = Field(default=1.1, ge=1)
    """Each step aims this much further than the boundary."""
    trust_region: PositiveFloat = Field(default=1e-3, serialization_alias="lr")
    """Its radius, relative to the number of values of an image; halved 20 times."""
    momentum: float = Field(default=0.8, ge=0, lt=1)
    """Of the estimate of the boundary's normal."""

    def passes(self, images: int, classes: int) -> Passes:
        return Passes.both(self.steps) * images

    def of_foolbox(self, count: int) -> Any:
        try:
            attack = super().of_foolbox(count)
        except ImportError as error:
            raise UnsupportedError(
                f"expected the package numba for {self.name}, got none installed; pip install 'robusteval[numba]'"
            ) from error
        attack.lr = self.trust_region / count
        return attack


def _project_l2(x: Any, x0: Any, epsilon: Any) -> Any:
    """x (N, ...) brought into the balls of radius epsilon (N,) around x0; tensors of eagerpy."""
    size = (x - x0).square().flatten(1).sum(axis=1).sqrt()
    factor = (epsilon / size.maximum(1e-12)).minimum(1)
    return x0 + (x - x0) * factor.reshape((-1, *[1] * (x.ndim - 1)))
