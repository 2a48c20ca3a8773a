"""Attack: settings that are the attack. It returns images; attacks/judge.py decides what they are worth."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import ClassVar, Literal, Self

import torch
from torch import Tensor, nn

from robusteval.attacks.budgets import Budget, radii_of
from robusteval.attacks.judge import judge
from robusteval.attacks.result import AttackCost, AttackResult
from robusteval.attacks.search.active import keep
from robusteval.attacks.search.bisection import HALVINGS, SEARCHES, bisect
from robusteval.core.errors import UserError
from robusteval.core.images import Images
from robusteval.core.methods import EnsembleStage, NormedMethod
from robusteval.core.norms import Norm
from robusteval.core.passes import Passes
from robusteval.core.streams import Streams
from robusteval.models.classifier import Classifier
from robusteval.models.plain import BATCH, as_classifier, as_images, clean_predictions
from robusteval.models.targeted import as_others, number_of, one_or_others
from robusteval.numerics.jacobian import at_once


@dataclass(frozen=True)
class Candidates:
    """What an attack found for N images: images (N, C, H, W) in [0, 1], the image itself where it found nothing,
    and what else it measured on the way, (N,) by quantity, for the table of measurements."""

    examples: Tensor
    measurements: Mapping[str, Tensor] = field(default_factory=dict)


Follows = Literal["gradients", "outputs", "both", "another model", "other attacks"]


class Attack(NormedMethod):
    """Search a misclassified image near each image."""

    follows: ClassVar[Follows] = "gradients"
    """What shows it the way: gradients of the model, its outputs alone, now these and now those, another model, or what
    other attacks found. Where the model's own gradients lose against the others, the report flags gradient masking."""
    on_sources: ClassVar[bool] = False
    """Whether it runs on each of the audit's source models, its images being judged on the target."""
    on_witnesses: ClassVar[bool] = False
    """Whether it improves adversarial examples that others found, and has `improve` for `run`: in an audit those of all
    attacks that do not, which run before it."""
    ensemble: ClassVar[tuple[EnsembleStage, ...]] = ()
    """Of an ensemble, its attacks in their order: it measures as `stage` which of them broke an image."""

    search_dtype: Literal["bfloat16"] | None = None
    """Search in a shorter floating-point type and channels-last; the judge stays in the audit's own."""

    @property
    def ranks_on_robustbench(self) -> bool:
        """Whether RobustBench ranks models by what this finds: the standard AutoAttack, with nothing made shorter."""
        return False

    @abstractmethod
    def run(self, classifier: Classifier, images: Images, budget: Tensor | None, streams: Streams) -> Candidates:
        """Candidates for N correctly classified images (N, C, H, W): within the radii `budget` (N,), or, for None,
        as close as it can."""

    def improve(self, classifier: Classifier, images: Images, starts: Tensor, streams: Streams) -> Candidates:
        """Of an attack `on_witnesses`: candidates as close as it can for N correctly classified images, from `starts`
        (S, N, C, H, W), several an image, NaN where there is none."""
        raise NotImplementedError

    @property
    def fixed_budget(self) -> bool:
        """Whether an audit gives it the budgets of the protocol."""
        return False

    def __call__(
        self,
        network: nn.Module | Classifier,
        pixels: Tensor,
        labels: Tensor,
        budget: Budget = None,
        *,
        source: nn.Module | Classifier | None = None,
        starts: Tensor | None = None,
        seed: int = 0,
        batch_size: int = BATCH,
        target: int | str | None = None,
    ) -> AttackResult:
        """Attack a network on images, outside an audit, and judge what is found.

        network: pixels (N, C, H, W) in [0, 1] -> logits (N, K), with its normalisation inside. It is copied and stays
        as it is; a Classifier (make_classifier) is taken as it is, which saves the copy.
        pixels (N, C, H, W) and labels (N,): on the device, and in the floating-point type, that the attack computes in.
        budget: a radius in pixel units, 0.03 or "8/255", or one for each image (N,); None for the smallest distance.
        An attack that searches the smallest distance anyhow succeeds where that lies within the budget.
        source: another model whose gradients are followed, the network being the target; `transfer` needs one.
        starts: adversarial examples (N, C, H, W), or several an image (S, N, C, H, W), NaN where there is none, for an
        attack that improves them, as `polish` does.
        seed: of one random stream an image, named by its place, so that the batch size changes nothing.
        target: the only class that counts as success, by its number, or as a Classifier's card names it. None for any
        class but the label.

        Misclassified images are not attacked: they are their own examples, at distance 0. With a target these are the
        images that the network gives it by itself; those whose label it is are not attacked either, and have none.
        Raises UserError in one line for what cannot be attacked.
        """
        images = as_images(pixels, labels)
        judged = as_classifier(network, images, batch_size)
        if self.on_sources and source is None:
            raise UserError(f"expected a source model for {self.name}, got none; give source=")
        begun = self._starts(starts, images)
        attacked = judged if source is None else as_classifier(source, images, batch_size)
        names, meant = images.labels, torch.ones_like(images.labels, dtype=torch.bool)
        target = number_of(target, judged)
        if target is not None:
            judged, attacked = one_or_others(judged, target), one_or_others(attacked, target)
            images, meant = as_others(images), names != target
        if self.search_dtype is not None:
            attacked = attacked.reduced(getattr(torch, self.search_dtype))
        radii = radii_of(budget, len(images), images.pixels)
        if radii is None and self.on_sources:
            raise UserError(f"expected a budget for {self.name}, got none: only the target could say which suffices")
        streams = Streams.for_images(seed, self.label, images.ids, images.pixels)
        right = clean_predictions(judged, images) == images.labels
        examples, measured = images.pixels.clone(), dict[str, Tensor]()
        for rows in (right & meant).nonzero()[:, 0].split(batch_size):
            given = None if radii is None or not self.fixed_budget else radii[rows]
            some = attacked.select(rows), images.select(rows)
            if begun is None:
                found = self.run(*some, given, streams.select(rows))
            else:
                found = self.improve(*some, begun[:, rows], streams.select(rows))
            examples[rows] = found.examples
            for quantity, values in found.measurements.items():
                column = measured.setdefault(quantity, torch.full_like(images.pixels[:, 0, 0, 0], torch.nan))
                column[rows] = values.to(column)
        verdict = judge(judged.metered(len(images)), images, examples, self.norm, radii).only(meant, images.labels)
        own = verdict.success | ~right
        if target is not None:
            verdict = replace(verdict, predicted=torch.where(verdict.success, target, names))
        return AttackResult(
            attack=self.heading(),
            norm=self.norm,
            examples=torch.where(own[:, None, None, None], examples, images.pixels),
            success=verdict.success,
            predicted=verdict.predicted,
            distances={norm: getattr(verdict, norm.value) for norm in Norm},
            cost=AttackCost(attacked.meter.forwards, attacked.meter.backwards),
            measurements=measured,
        )

    def _starts(self, starts: Tensor | None, images: Images) -> Tensor | None:
        """The starts (S, N, C, H, W) of an attack that needs some. Raises UserError."""
        if not self.on_witnesses:
            if starts is not None:
                raise UserError(f"expected no starts for {self.name}, which finds its own")
            return None
        if starts is None:
            raise UserError(f"expected adversarial examples for {self.name} to start from, got none; give starts=")
        several = starts[None] if starts.shape == images.pixels.shape else starts
        if several.dim() != 5 or several.shape[1:] != images.pixels.shape:
            raise UserError(f"expected starts of shape {tuple(images.pixels.shape)}, got {tuple(starts.shape)}")
        return several.to(images.pixels)


class MinimumDistanceAttack(Attack):
    """An attack that returns images as close as it can, and heeds no budget."""

    @abstractmethod
    def closest(self, classifier: Classifier, images: Images, streams: Streams) -> Candidates:
        """The closest misclassified images that it finds."""

    def gradients(self, classes: int) -> int:
        """How many gradients of an image it holds at a time on a model of so many classes, if it holds several: it
        gets no more images at once than these leave memory for (numerics.jacobian.ENTRIES)."""
        return 0

    def run(self, classifier: Classifier, images: Images, budget: Tensor | None, streams: Streams) -> Candidates:
        held = self.gradients(classifier.num_classes)
        size = at_once(held, images.pixels) if held and len(images) else len(images)
        if size >= len(images):
            return self.closest(classifier, images, streams)
        parts = torch.arange(len(images)).split(size)
        found = [self.closest(*keep(rows, classifier, images, streams)) for rows in parts]
        measured = {q: torch.cat([part.measurements[q] for part in found]) for q in found[0].measurements}
        return Candidates(torch.cat([part.examples for part in found]), measured)


class FixedBudgetAttack(Attack):
    """An attack inside a ball around each image; its minimum distance is found by bisection on the radius."""

    minimum_distance: bool = False
    """Give it no budget, but search the smallest one at which it succeeds, for each image."""

    searches_again: ClassVar[bool] = False
    """Whether that search goes on, at other random points, until it has cost what `passes` says."""

    def passes(self, images: int, classes: int) -> Passes | None:
        once = self.passes_within(images, classes)
        return once if once is None or not self.minimum_distance else once * SEARCHES + Passes(HALVINGS) * images

    def passes_within(self, images: int, classes: int) -> Passes | None:
        """The same inside one ball."""
        return None

    def searching(self, number: int) -> Self:
        """What makes search `number` of the bisection, from 0."""
        return self

    @abstractmethod
    def within(self, classifier: Classifier, images: Images, budget: Tensor, streams: Streams) -> Candidates:
        """Images within the radii `budget` (N,)."""

    def run(self, classifier: Classifier, images: Images, budget: Tensor | None, streams: Streams) -> Candidates:
        if budget is not None:
            return self.within(classifier, images, budget, streams)

        def examples(number: int, view: Classifier, some: Images, radii: Tensor, own: Streams) -> Tensor:
            return self.searching(number).within(view, some, radii, own).examples

        cost = self.passes_within(1, classifier.num_classes) if self.searches_again else None
        once = None if cost is None else cost.forward + cost.backward
        return Candidates(bisect(examples, self.norm, classifier, images, streams, once))

    @property
    def fixed_budget(self) -> bool:
        return not self.minimum_distance

    @property
    def says(self) -> str:
        return ", by bisection" if self.minimum_distance else ""

    @property
    def label(self) -> str:
        return f"{super().label}-distance" if self.minimum_distance else super().label
