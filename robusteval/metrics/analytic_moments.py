"""Analytic moments under Gaussian noise: what the network makes of its expected first activations."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from pydantic import Field, NonNegativeFloat
from scipy.stats import t as student
from torch import Tensor

from robusteval.core.images import Images
from robusteval.core.methods import Quantity
from robusteval.core.passes import Passes
from robusteval.core.streams import Streams
from robusteval.metrics.base import ImageMetric, Measurement
from robusteval.metrics.first_relu import FirstRelu, first_relu
from robusteval.models.classifier import Classifier
from robusteval.numerics.noise import copies, few


class AnalyticMoments(ImageMetric):
    """The expected logits under noise N(0, sigma^2 I) by one forward pass, and how far they are from Monte Carlo.

    Moments theorem 1 and eq. 3. The network is f(x) = Omega(ReLU(A x + c)) (robusteval/first_relu.py). Under the noise
    A x + c is Gaussian, with mean mu2 and standard deviation sigma2 = sigma * (norms of A's rows) in each unit, so that
    mean mu3 and standard deviation after the ReLU are known exactly (`rectified`). The surrogate Omega(mu3) for the
    expected logits E f is exact where Omega is affine, a two-layer network; elsewhere nothing bounds its error, which
    is why it is measured here.

    At each sigma, against `samples` noisy copies: `expected_class` is the class of Omega(mu3); `monte_carlo_class` that
    of the mean logits; `agreement` is 1 where they are the same, 0 where not, NaN where the copies do not tell.
    Relative L2 errors: `output_error` of Omega(mu3) and `clean_error` of f(x) itself, against the mean logits, of which
    `output_uncertainty` is the relative standard error: what Monte Carlo alone contributes to both. `mean_error` and
    `deviation_error`, of the exact moments after the ReLU, are Monte Carlo error and nothing else; `mean_uncertainty`
    is what theorem 1 expects of the first. At sigma 0 all is exact and one copy is enough.

    At each sigma one forward for the surrogate and `samples` for Monte Carlo, and one for the image itself.
    """

    name: ClassVar[str] = "analytic-moments"
    title: ClassVar[str] = "Analytic moments"
    summary: ClassVar[str] = (
        "class of the analytic expected output under noise, against Monte Carlo (Moments, theorem 1)"
    )
    quantities = (
        Quantity(name="expected_class", title="class of the analytic expected output"),
        Quantity(name="monte_carlo_class", title="class of the Monte Carlo output"),
        Quantity(name="agreement", title="same class as Monte Carlo"),
        Quantity(name="output_error", title="analytic expected output"),
        Quantity(name="clean_error", title="output of the image itself"),
        Quantity(name="output_uncertainty", title="Monte Carlo output alone"),
        Quantity(name="mean_error", title="exact mean after the first ReLU"),
        Quantity(name="mean_uncertainty", title="Monte Carlo alone after the ReLU"),
        Quantity(name="deviation_error", title="exact deviation after the first ReLU"),
    )

    sigmas: Annotated[tuple[NonNegativeFloat, ...], Field(min_length=1)] = (0.125, 0.25, 0.325, 0.5, 1.0)
    """Standard deviations in pixel units; by default those that the paper trains with."""
    samples: Annotated[int, Field(ge=2)] = 500
    """Noisy copies behind each Monte Carlo estimate."""
    alpha: Annotated[float, Field(gt=0, lt=1)] = 0.001
    """About the probability, for each image and sigma, that an agreement or disagreement is due to the samples."""

    def passes(self, images: int, classes: int) -> Passes:
        return Passes(1 + len(self.sigmas) * (1 + self.samples)) * images

    def measure(
        self, classifier: Classifier, images: Images, witnesses: Tensor | None, streams: Streams
    ) -> list[Measurement]:
        network = first_relu(classifier)
        rows = few(len(images), classifier.batch_size)
        parts = [self._measured(network, images.pixels[r], streams.select(r), r) for r in rows]
        return [
            Measurement(quantity, sigma, torch.cat([part[quantity, sigma] for part in parts]))
            for quantity, sigma in parts[0]
        ]

    def _measured(
        self, network: FirstRelu, pixels: Tensor, streams: Streams, rows: Tensor
    ) -> dict[tuple[str, float], Tensor]:
        """Of a few images, (n,) each."""
        both, rest, units = network.both.select(rows), network.rest.select(rows), len(network.gain)
        clean = both.predict(pixels).double()[:, :-units]
        before, found = network.before(pixels), dict[tuple[str, float], Tensor]()
        for sigma in self.sigmas:
            mean, deviation = rectified(before, sigma * network.gain)
            expected = rest.predict(mean.to(pixels.dtype).unflatten(1, network.shape)).double()
            own = expected.argmax(1)
            noisy = copies(pixels, streams, sigma, self.samples if sigma > 0 else 1, both.batch_size)
            seen = sampled((_answers(both, batch, own) for batch in noisy), _beside(expected, own, mean))
            classes = expected.shape[1]
            lead, logits, after = seen.mean.split([classes, classes, units], 1)
            lead_error, logits_error, _ = seen.error.split([classes, classes, units], 1)
            level = float(student.isf(self.alpha / (classes - 1), self.samples - 1))
            measured = {
                "expected_class": own,
                "monte_carlo_class": logits.argmax(1),
                "agreement": agreement(lead, level * lead_error, own),
                "output_error": relative(expected - logits, logits),
                "clean_error": relative(clean - logits, logits),
                "output_uncertainty": relative(logits_error, logits),
                "mean_error": relative(mean - after, after),
                "mean_uncertainty": relative(deviation / math.sqrt(seen.draws), after),
                "deviation_error": relative(deviation - seen.deviation[:, -units:], seen.deviation[:, -units:]),
            }
            found |= {(quantity, sigma): values.double() for quantity, values in measured.items()}
        return found


def rectified(mean: Tensor, deviation: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of max(z, 0) for Gaussian z, entry by entry, float64.

    Theorem 1: E max(z, 0) = m Phi(a) + s phi(a) with a = m / s; and E max(z, 0)^2 = (m^2 + s^2) Phi(a) + m s phi(a).
    Both are taken at b = -|a|, where all terms are small, by max(z, 0) = z + max(-z, 0): no large numbers cancel.
    Errors are a few roundings in the mean, and below 1e-7 s in the deviation. Where s is 0: max(m, 0) and 0.
    """
    tiny = torch.finfo(mean.dtype).tiny
    # Beyond 40 standard deviations nothing is left of the smaller part.
    b = -(mean.abs() / deviation.clamp_min(tiny)).clamp_max(40.0)
    below, density = torch.special.ndtr(b), torch.exp(-b.square() / 2) / math.sqrt(2 * math.pi)
    part = b * below + density
    variance = (b.square() + 1) * below + b * density - part.square()
    variance = torch.where(mean > 0, 1 + variance - 2 * below, variance)
    return mean.clamp_min(0) + deviation * part, deviation * variance.clamp_min(0).sqrt()


@dataclass(frozen=True, eq=False)
class Sampled:
    """Mean and standard deviation of `draws` samples, (n, D) each, and the standard error of the mean."""

    mean: Tensor
    deviation: Tensor
    draws: int

    @property
    def error(self) -> Tensor:
        return self.deviation / math.sqrt(self.draws)


def sampled(batches: Iterable[Tensor], near: Tensor) -> Sampled:
    """Of samples (n, k, D) at a time; `near` (n, D) is anything near their mean, so that no large numbers cancel."""
    total, squares, draws = torch.zeros_like(near), torch.zeros_like(near), 0
    for batch in batches:
        away = batch - near[:, None]
        total, squares, draws = total + away.sum(1), squares + away.square().sum(1), draws + batch.shape[1]
    variance = (squares - total.square() / draws).clamp_min(0) / max(draws - 1, 1)
    return Sampled(near + total / draws, variance.sqrt(), draws)


def agreement(lead: Tensor, margin: Tensor, own: Tensor) -> Tensor:
    """Whether class `own` (N,) is the one of the largest mean, (N,): 1 or 0, and NaN where the margins leave it open.

    lead (N, K) is by how much each class's mean lies above that of `own`, known up to `margin`.
    """
    others = torch.ones_like(lead, dtype=torch.bool).scatter(1, own[:, None], False)
    beaten = ((lead - margin > 0) & others).any(1)
    largest = ((lead + margin < 0) | ~others).all(1)
    return torch.where(largest, 1.0, torch.where(beaten, 0.0, torch.nan)).double()


def relative(error: Tensor, of: Tensor) -> Tensor:
    """|error|_2 / |of|_2 of rows (N, D), (N,): 0 where there is no error, NaN where there is nothing to compare to."""
    size, whole = error.norm(dim=1), of.norm(dim=1)
    return torch.where(size == 0, 0.0, torch.where(whole > 0, size / whole, torch.nan))


def _answers(both: Classifier, noisy: Tensor, own: Tensor) -> Tensor:
    """Of copies (n, k, C, H, W): leads over class `own`, logits, values after the ReLU, (n, k, 2 K + F) float64."""
    values = both.predict(noisy.flatten(0, 1)).double()
    logits, after = values[:, : both.num_classes], values[:, both.num_classes :]
    rows: Tensor = _beside(logits, own.repeat_interleave(noisy.shape[1]), after)
    return rows.view(*noisy.shape[:2], -1)


def _beside(logits: Tensor, own: Tensor, after: Tensor) -> Tensor:
    return torch.cat([logits - logits.gather(1, own[:, None]), logits, after], dim=1)
