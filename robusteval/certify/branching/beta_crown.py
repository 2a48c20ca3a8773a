"""beta-crown: radii proven by branch and bound, and witnesses that it meets on the way."""

from __future__ import annotations

from typing import Annotated, ClassVar

import torch
from pydantic import Field, NonNegativeInt, PositiveInt
from torch import Tensor

from robusteval.attacks.fmn import FMN
from robusteval.certify.base import Radii, State
from robusteval.certify.branching.search import Inquiry, Knows
from robusteval.certify.branching.tightening import tightened
from robusteval.certify.branching.unrolling import unrolled
from robusteval.certify.branching.witnesses import Witnesses
from robusteval.certify.propagation.asked import Proof
from robusteval.certify.propagation.ball import InputBall
from robusteval.certify.propagation.base import batches, check_near
from robusteval.certify.propagation.crown import CROWN
from robusteval.certify.propagation.graph import Graph
from robusteval.certify.propagation.intermediate_bounds import refined
from robusteval.certify.propagation.interval_bounds import propagated
from robusteval.certify.propagation.trace import trace
from robusteval.certify.propagation.values import Known
from robusteval.core.errors import RefutedError
from robusteval.core.images import Images
from robusteval.core.methods import Quantity
from robusteval.core.streams import Streams
from robusteval.models.classifier import Classifier

UPPER = Quantity(name="witness_distance", title="distance of the closest adversarial example that it met")
EXACT = Quantity(name="exact", title="whether the two meet", words={0: "no", 1: "yes"})
DOMAINS = Quantity(name="domains", title="sub-problems that were bounded")


class BetaCROWN(Proof):
    """Branch and bound over the phases of ReLUs (beta-CROWN, Wang et al. 2021), fed by and feeding attacks.

    A PROOF: within the radius no image of [0, 1] gets another class from the network as it is evaluated, rounding
    included, sub-problem by sub-problem (branching/bounding.py). In each sub-problem one more ReLU is active or
    inactive, the one whose worse half has the higher bound (De Palma et al. 2021). Where their bounds are least,
    adversarial examples are looked for (Zhang et al. 2022): one that is found bounds the distance from above, and
    decides an image at a budget. Max-pooling is split, too, as ReLUs of differences. Misclassified images get 0.

    Anytime: the radius is what is proven when `domains` sub-problems are spent, never below that of `crown`; without
    `at` the distance is exact, up to `tolerance`, where the measurement `exact` is 1. The work grows with the number of
    ReLUs that a ball leaves open, at worst twofold with each.
    """

    name: ClassVar[str] = "beta-crown"
    title: ClassVar[str] = "beta-CROWN"
    summary: ClassVar[str] = "branch and bound, beta-CROWN (Wang et al. 2021)"
    quantities = (UPPER, EXACT, DOMAINS)

    tolerance: Annotated[float, Field(gt=0, lt=1)] = 0.01
    """A distance counts as exact where the closest witness is no farther than the proven radius by more, relative."""

    domains: PositiveInt = 5000
    """Sub-problems after which an image, or an image at a radius of `at`, is given up; those of a batch are ended."""

    tighten: NonNegativeInt = 0
    """Steps of optimisation of the intervals inside the network, an end of an interval each (alpha-CROWN, Xu et al.
    2021): many times what the rest of a root costs."""

    steps: PositiveInt = 60
    """Of the attack at the beginning (FMN)."""

    affordable: NonNegativeInt = 10**8
    """As `crown` has it."""

    def radii(self, classifier: Classifier, images: Images, state: State, streams: Streams) -> Radii:
        """Measurements: the distance of the closest witness (NaN where none was met), whether the distance is exact,
        and the sub-problems that were bounded."""
        asked, graph = self.questions(images), trace(classifier)
        split = unrolled(graph)
        predicted = classifier.predict(images.pixels).argmax(1)
        radius = torch.zeros(len(images), dtype=torch.float64, device=predicted.device)
        upper, domains = torch.full_like(radius, torch.nan), torch.zeros_like(radius)
        for rows in batches(graph, predicted == images.labels):
            block = classifier.select(rows), images.select(rows), streams.select(rows)
            witnesses = self._begun(*block)
            search = Inquiry(split, self._knows(split), self.norm, block[1].pixels.double(), block[1].labels, witnesses)
            if asked is None:
                self._close(search, graph)
            else:
                self._decide(search, asked[rows])
            radius[rows], upper[rows] = search.proven, witnesses.distances
            domains[rows] = torch.tensor([float(search.used(i)) for i in range(len(rows))]).to(domains)
        broken = (upper <= radius).nonzero()[:, 0].tolist()
        if broken:
            i = broken[0]
            raise RefutedError(
                f"expected no image of another class within {self.norm.symbol} {float(radius[i]):.6g} of image "
                f"{images.ids[i]}, which {self.title} proves, got one at {float(upper[i]):.6g}: the proof is wrong, "
                "please report it with the network"
            )
        upper = torch.where(upper.isinf(), torch.nan, upper)
        check_near(graph, classifier, images, self.norm, radius, streams)
        exact = (upper <= (1 + self.tolerance) * radius).double()
        measured = tuple((q.name, 0.0, v) for q, v in ((UPPER, upper), (EXACT, exact), (DOMAINS, domains)))
        return Radii(radius, predicted, torch.zeros_like(predicted, dtype=torch.bool), measured)

    def _begun(self, classifier: Classifier, images: Images, streams: Streams) -> Witnesses:
        witnesses = Witnesses(classifier, images, self.norm)
        if witnesses.lengths:
            found = FMN(norm=self.norm, steps=self.steps).closest(classifier, images, streams).examples
            witnesses.offer(torch.arange(len(images), device=found.device), found)
        return witnesses

    def _knows(self, graph: Graph) -> Knows:
        def knows(ball: InputBall) -> list[Known]:
            inner = refined(graph, ball, self.affordable)
            return propagated(graph, ball, tightened(graph, ball, inner, self.tighten) if self.tighten else inner)

        return knows

    def _close(self, search: Inquiry, graph: Graph) -> None:
        problem = search.forest.problem
        crown = CROWN(norm=self.norm, tolerance=self.tolerance, affordable=self.affordable)
        search.proven = crown.certified(graph, problem.ball.x, problem.labels)
        rows = [i for i in range(len(search.proven)) if search.proven[i] > 0]
        search.close(rows, self.domains, self.tolerance)

    def _decide(self, search: Inquiry, asked: Tensor) -> None:
        """The radii asked of each image, the smallest first, until one is not proven."""
        going = list(range(len(asked)))
        for radii in asked.flip(1).unbind(1):
            eps = {i: float(radii[i]) for i in going}
            search.decide(eps, self.domains)
            going = [i for i in going if float(search.proven[i]) >= eps[i]]
