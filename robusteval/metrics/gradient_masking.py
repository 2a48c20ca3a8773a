"""Signs of gradient masking around each image; analysis/masking/signs.py says what makes a flag of them.

Pintor et al., Indicators of Attack Failure (2022), and Athalye, Carlini and Wagner, Obfuscated Gradients (2018).
Deviations: the loss of indicator 2 is the margin, whose relative change means the same for a confident model as for a
doubtful one, where a cross-entropy of 1e-6 doubles under any noise; indicator 5 compares what an attack saw on its way
with a second evaluation of the same image, the only surrogate that a model has within itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, ClassVar

import torch
from pydantic import BeforeValidator, PositiveFloat, PositiveInt
from torch import Tensor

from robusteval.attacks.pgd import PGD
from robusteval.attacks.search.active import keep
from robusteval.attacks.search.ball import Ball
from robusteval.attacks.search.losses import Goal, Loss
from robusteval.core.images import Images
from robusteval.core.methods import NormedMethod, Quantity
from robusteval.core.norms import Norm, column
from robusteval.core.numbers import number
from robusteval.core.passes import Passes
from robusteval.core.streams import Streams
from robusteval.metrics import masking_constants as masking
from robusteval.metrics.base import ImageMetric, Measurement
from robusteval.metrics.gradient_size import gradient_rows, largest_entries
from robusteval.models.answers import misclassified
from robusteval.models.classifier import Classifier

RADII = {Norm.L2: 0.5, Norm.LINF: 8 / 255}


SLACK = 1e-5
"""Losses closer than this, relative to their whole range, are equal: rounding decides nothing."""


class GradientMasking(NormedMethod, ImageMetric):
    """What white-box attacks see around each image, and whether they can trust it.

    docs/masking.md lists the quantities. Those of attacks are NaN for misclassified images. An image costs at most
    `samples` + `queries` forwards and about (8 + `restarts`) * `steps` forwards and backwards; searches that only ask
    whether it is fooled stop there.
    """

    name: ClassVar[str] = "gradient-masking"
    title: ClassVar[str] = "Gradient masking"
    summary: ClassVar[str] = "signs of masked gradients (Athalye et al. 2018; Pintor et al. 2022)"
    quantities = (
        Quantity(name="probabilities", title="outputs are probabilities"),
        Quantity(name="gradient_size", title="largest entry of the gradient of the cross-entropy"),
        Quantity(name="gradient_size_margin", title="largest entry of the gradient of the margin"),
        Quantity(name="zero_gradient_entries", title="share of zeros in the gradient of the cross-entropy"),
        Quantity(name="loss_variation", title="relative change of the margin under noise"),
        Quantity(name="output_spread", title="relative change of a logit between evaluations"),
        Quantity(name="fooled", title="broken by PGD"),
        Quantity(name="fooled_more_steps", title="broken by PGD with four times the steps"),
        Quantity(name="fooled_restarts", title="broken by PGD with random starts"),
        Quantity(name="fooled_without_gradients", title="broken by a search without gradients"),
        Quantity(name="silent_success", title="a broken image passed on the way, the end not broken"),
        Quantity(name="transfer_failure", title="broken on the way, not when evaluated again"),
        Quantity(name="late_progress", title="share of the rise of the loss in the last steps"),
        Quantity(name="best_step", title="first step at the highest loss"),
        Quantity(name="falling_steps", title="share of steps at which the loss fell"),
    )
    norms = tuple(RADII)
    norm: Norm = Norm.LINF
    budget: Annotated[PositiveFloat | None, BeforeValidator(number)] = None
    """Radius of the probing attacks, pixel units; 8/255 in Linf and 0.5 in L2 unless given."""
    steps: PositiveInt = 40
    """Of an ascent; one of them is repeated with four times as many."""
    restarts: PositiveInt = 3
    """Random starts that are tried beyond the one at the image."""
    queries: PositiveInt = 100
    """Evaluations of the search without gradients."""
    samples: PositiveInt = masking.UNSTABLE_SAMPLES
    repeats: PositiveInt = 5
    """Evaluations of the same image."""

    def passes(self, images: int, classes: int) -> Passes:
        return (Passes(self.samples + self.queries) + Passes.both((8 + self.restarts) * self.steps)) * images

    @property
    def radius(self) -> float:
        return self.budget or RADII[self.norm]

    def measure(
        self, classifier: Classifier, images: Images, witnesses: Tensor | None, streams: Streams
    ) -> list[Measurement]:
        logits = classifier.predict(images.pixels)
        rows = (logits.argmax(1) == images.labels).nonzero()[:, 0]
        found = [Measurement("probabilities", 0, probabilities(logits)), *self._gradients(classifier, images)]
        found.append(self._variation(classifier, images, logits, streams))
        if len(rows):
            searched = [*self._without_gradients(*keep(rows, classifier, images, streams))]
            if not found[1].values.isnan().all():
                searched += self._attacks(*keep(rows, classifier, images, streams))
            found += [Measurement(m.quantity, m.at, _spread_out(m.values, rows, len(images))) for m in searched]
        return [*found, self._repeated(classifier, images, logits)]

    def _gradients(self, classifier: Classifier, images: Images) -> Iterator[Measurement]:
        """The largest entry at the image: infinite if any is not finite, NaN if the model lets no gradient through."""
        for quantity, loss in (("gradient_size", Loss.CROSS_ENTROPY), ("gradient_size_margin", Loss.MARGIN)):
            rows, broken = gradient_rows(classifier, images.pixels, Goal(loss, images.labels))
            yield Measurement(quantity, 0, largest_entries(rows, broken))
            if rows is not None and loss is Loss.CROSS_ENTROPY:
                yield Measurement("zero_gradient_entries", 0, (rows == 0).to(rows).mean(1))

    def _variation(self, classifier: Classifier, images: Images, logits: Tensor, streams: Streams) -> Measurement:
        """Indicator 2: the mean relative change of the margin under noise, at most 1."""
        goal = Goal(Loss.MARGIN, images.labels)
        clean = goal(logits)
        scale = torch.where(clean == 0, 1.0, clean.abs())
        total = torch.zeros_like(clean)
        for _ in range(self.samples):
            noise = masking.UNSTABLE_RADIUS * streams.in_ball(Norm.LINF, *images.shape)
            total += (goal(classifier.predict(images.pixels + noise)) - clean).abs() / scale
        return Measurement("loss_variation", masking.UNSTABLE_RADIUS, (total / self.samples).clamp_max(1))

    def _repeated(self, classifier: Classifier, images: Images, logits: Tensor) -> Measurement:
        """The largest change of a logit between the first evaluation of all and these last ones, every other of which
        takes the images in reverse, relative to the largest logit."""
        spread = torch.zeros_like(logits[:, 0])
        for i in range(self.repeats):
            again = classifier.predict(images.pixels) if i % 2 else classifier.predict(images.pixels.flip(0)).flip(0)
            spread = spread.maximum((again - logits).abs().amax(1))
        return Measurement("output_spread", self.repeats, spread / logits.abs().amax(1).clamp_min(1e-12))

    def _without_gradients(self, classifier: Classifier, images: Images, streams: Streams) -> Iterator[Measurement]:
        radius = torch.full_like(images.pixels[:, 0, 0, 0], self.radius)
        ball = Ball.around(images.pixels, self.norm, radius)
        found = random_search(classifier, images.labels, ball, self.queries, streams)
        yield Measurement("fooled_without_gradients", self.radius, _fooled(classifier, images, found))

    def _attacks(self, classifier: Classifier, images: Images, streams: Streams) -> Iterator[Measurement]:
        radius = torch.full_like(images.pixels[:, 0, 0, 0], self.radius)
        yield from self._ascent(classifier, images, Ball.around(images.pixels, self.norm, radius))
        far = {Norm.L2: images.pixels[0].numel() ** 0.5, Norm.LINF: 1.0}[self.norm]
        for at, reach in ((self.radius / 2, 0.5), (2 * self.radius, 2.0), (torch.inf, far / self.radius)):
            pgd = PGD(norm=self.norm, steps=self.steps, step=2.5 / self.steps, random_start=False)
            found = pgd.within(classifier, images, reach * radius, streams).examples
            yield Measurement("fooled", at, _fooled(classifier, images, found))
        longer = PGD(norm=self.norm, steps=4 * self.steps, step=2.5 / (4 * self.steps), random_start=False)
        again = PGD(norm=self.norm, steps=self.steps, step=2.5 / self.steps, restarts=self.restarts)
        for quantity, at, more in (
            ("fooled_more_steps", longer.steps, longer),
            ("fooled_restarts", again.restarts, again),
        ):
            found = more.within(classifier, images, radius, streams).examples
            yield Measurement(quantity, at, _fooled(classifier, images, found))

    def _ascent(self, classifier: Classifier, images: Images, ball: Ball) -> Iterator[Measurement]:
        """Plain PGD from the image, with all of its path: a fooled image stays, since the end is measured too."""
        goal = Goal(Loss.CROSS_ENTROPY, images.labels)
        x, first = ball.centers, ball.centers
        seen = torch.zeros_like(images.labels, dtype=torch.bool)
        losses = []
        for _ in range(self.steps + 1):
            gradient, values, logits = classifier.gradient(x, goal)
            wrong = misclassified(logits, images.labels)
            first = torch.where(column(wrong & ~seen, x), x, first)
            seen |= wrong
            losses.append(values)
            direction = self.norm.steepest(gradient.nan_to_num(0, 0, 0))
            x = ball.nearest(x + ball.step(2.5 / self.steps, direction))
        trace = torch.stack(losses, 1).nan_to_num(0, 0, 0)
        judged = _fooled(classifier, images, first)
        yield Measurement("fooled", self.radius, judged)
        yield Measurement("silent_success", self.radius, seen & ~wrong)
        yield Measurement("transfer_failure", self.radius, seen & ~judged)
        yield Measurement("late_progress", self.steps, late_progress(trace))
        top, slack = trace.amax(1, keepdim=True), SLACK * (trace.amax(1, keepdim=True) - trace.amin(1, keepdim=True))
        yield Measurement("best_step", self.steps, (trace >= top - slack).int().argmax(1))
        yield Measurement("falling_steps", self.steps, (trace.diff(dim=1) < -slack).to(trace).mean(1))


def probabilities(logits: Tensor) -> Tensor:
    """Whether rows (N, K) are non-negative and sum to one, (N,) bool."""
    return (logits >= 0).all(1) & ((logits.sum(1) - 1).abs() <= masking.PROBABILITIES)


def late_progress(losses: Tensor) -> Tensor:
    """Indicator 4: the share of the whole rise of the best loss so far, of losses (N, steps + 1) from the start on,
    that falls into the last LAST_STEPS of them; 0 where nothing rises, (N,)."""
    best = losses.cummax(1).values
    last = best[:, -min(masking.LAST_STEPS, best.shape[1])]
    rise = best[:, -1] - losses.amin(1)
    return torch.where(rise > 0, (best[:, -1] - last) / rise.clamp_min(torch.finfo(rise.dtype).tiny), 0.0)


def random_search(classifier: Classifier, labels: Tensor, ball: Ball, queries: int, streams: Streams) -> Tensor:
    """Images (N, C, H, W) of the largest margin found in `queries` evaluations; a fooled image leaves at once.

    A square of random place, and of a sign for each channel, is pushed to the border of the ball and kept if the
    margin does not fall, as in Andriushchenko et al. (2020); its side falls from half the image's to a tenth.
    """
    n, (channels, height, width) = len(labels), ball.centers.shape[1:]
    place, signs = streams.uniform(queries, 2), 2 * streams.integers(2, queries, channels).to(ball.centers) - 1
    goal = Goal(Loss.MARGIN, labels)
    best, value = ball.centers.clone(), torch.full_like(ball.radius, -torch.inf)
    rows = torch.arange(n, device=best.device)
    for k in range(queries):
        side = max(1, round(min(height, width) * 0.5 * 0.2 ** (k / queries)))
        tall, wide = _window(place[:, k, 0], side, height), _window(place[:, k, 1], side, width)
        inside = (tall[:, :, None] & wide[:, None, :])[:, None]
        patch = ball.norm.scale_to(inside * signs[:, k, :, None, None], 1.0)
        trial = ball.nearest(best[rows] + ball.step(2.0 if ball.norm is Norm.LINF else 1.0, patch))
        margin = goal(classifier.predict(trial))
        better = margin >= value
        best[rows[better]], value = trial[better], torch.where(better, margin, value)
        if (value > 0).any():
            classifier, ball, goal, place, signs, value, rows = keep(
                value <= 0, classifier, ball, goal, place, signs, value, rows
            )
            if not len(rows):
                break
    return best


def _window(place: Tensor, side: int, size: int) -> Tensor:
    """`side` neighbours of range(size) from a uniform place (N,) on, (N, size) bool."""
    start = (place * (size - side + 1)).floor()[:, None]
    at = torch.arange(size, device=place.device)
    return (at >= start) & (at < start + side)


def _fooled(classifier: Classifier, images: Images, candidates: Tensor) -> Tensor:
    """Whether images are misclassified when they are evaluated again, (N,) bool."""
    logits = classifier.predict(candidates)
    return misclassified(logits, images.labels)


def _spread_out(values: Tensor, rows: Tensor, n: int) -> Tensor:
    """values of some of n images, NaN for the others, (n,) float64."""
    every = torch.full((n,), torch.nan, dtype=torch.float64, device=values.device)
    every[rows] = values.double()
    return every
