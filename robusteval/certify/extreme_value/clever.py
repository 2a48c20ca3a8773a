"""CLEVER: margins over the steepest slopes of the logit differences near an image, estimated as extreme values."""

from __future__ import annotations

from typing import ClassVar

import torch
from pydantic import PositiveFloat, PositiveInt
from torch import Tensor

from robusteval.certify.base import Certificate, Radii, State
from robusteval.certify.extreme_value.gev import WORDS, fit
from robusteval.certify.extreme_value.loss import rounded_down
from robusteval.core.images import Images
from robusteval.core.methods import Guarantee, Quantity
from robusteval.core.norms import Norm
from robusteval.core.passes import Passes
from robusteval.core.streams import Streams
from robusteval.models.classifier import Classifier

RADII: dict[Norm, float] = {Norm.L1: 32.0, Norm.L2: 2.0, Norm.LINF: 0.25}
"""The balls that slopes are sampled in unless the protocol says otherwise."""
SHAPES = (0.25, 1.0)
"""The shapes of the fit: an upper end exists, and is at most loc + 4 scale. Closer to c = 0 it is anywhere."""


class Clever(Certificate):
    """min over j of (f_c - f_j)(x) / L_j, at most `radius`, with f the logits and c the label.

    Weng et al. (2018), "Evaluating the robustness of neural networks: an extreme value theory approach", theorem 3.2
    and algorithms 1 and 2: L_j is the largest dual norm of grad(f_c - f_j) in the ball of `radius` around x, estimated
    as the upper end of the distribution fitted to the maxima of `batches` batches of `samples` points uniform in the
    ball. That is an ESTIMATE. It says nothing beyond `radius`, so it is capped there, and `clever_capped` is 1.

    The upper end is never below the largest slope seen. Its shape is held to c >= 1/4 (a reverse Weibull of shape 4 or
    less): a fit without an upper end has code 2 (gev.Fit) and takes loc + 4 scale, which the next maximum of a Gumbel
    tail exceeds with probability 1.8 %, where a free fit gives ends that are anywhere. Where nothing can be fitted,
    L_j is the largest slope seen. Slopes that are zero throughout give the cap.

    Deviations: points are clipped to [0, 1], where adversarial images lie; all targets share them, with one forward
    a point and one backward a point and target; only the `targets` likeliest other classes are looked at. The bounds
    of the targets are the measurements `clever` and their codes `clever_fit_code`, at the target; NaN for other images
    and where the image is misclassified, which gets 0. batches * samples * (1 forward + `targets` backwards) an image.
    """

    name: ClassVar[str] = "clever"
    title: ClassVar[str] = "CLEVER"
    summary: ClassVar[str] = "margins over locally estimated Lipschitz constants (CLEVER, Weng et al. 2018)"
    quantities = (
        Quantity(name="clever_capped", title="capped at the radius of the ball"),
        Quantity(name="clever", title="bound towards a class"),
        Quantity(name="clever_fit_code", title="state of the fit", words=WORDS),
    )
    kind: ClassVar[Guarantee] = Guarantee.ESTIMATE

    radius: PositiveFloat | None = None
    """Of the ball, pixel units; RADII of the norm by default."""
    batches: PositiveInt = 100
    """The number of maxima that each distribution is fitted to; 500 in the paper."""
    samples: PositiveInt = 10
    """The points whose largest slope is one maximum; 1,024 in the paper. The upper end of the maxima is that of the
    slopes, however few points they are of; more maxima of fewer points each give less spread."""
    targets: PositiveInt = 9
    """The likeliest other classes, as far as there are so many."""

    def passes(self, images: int, classes: int) -> Passes:
        return Passes(1, min(self.targets, classes - 1)) * (self.batches * self.samples * images)

    @property
    def limit(self) -> float | None:
        return self.radius

    def radii(self, classifier: Classifier, images: Images, state: State, streams: Streams) -> Radii:
        radius = self.radius or RADII[self.norm]
        logits = classifier.predict(images.pixels).double()
        predicted = logits.argmax(1)
        bounds, codes = torch.full_like(logits, torch.nan), torch.full_like(logits, torch.nan)
        right = (predicted == images.labels).nonzero()[:, 0]
        chunks = right.split(max(1, classifier.batch_size // self.samples)) if len(right) else ()
        for rows in chunks:
            classes = _classes(logits[rows], images.labels[rows], self.targets)
            view, own = classifier.select(rows), streams.select(rows)
            maxima = self._maxima(view, images.pixels[rows], classes, own, radius)
            slope, code = _ends(maxima)
            scores = logits[rows].gather(1, classes)
            margin = scores[:, :1] - scores[:, 1:]
            at = (rows[:, None], classes[:, 1:])
            bounds[at] = torch.where(margin > 0, margin / slope.to(margin), 0.0).clamp_max(radius)
            codes[at] = code.to(codes)
        found = bounds.nan_to_num(nan=torch.inf).amin(1)
        return Radii(
            rounded_down(torch.where(found.isfinite(), found, 0.0)),
            predicted,
            torch.zeros_like(predicted, dtype=torch.bool),
            (
                ("clever_capped", 0, (found == radius).double()),
                *_columns("clever", bounds),
                *_columns("clever_fit_code", codes),
            ),
        )

    def _maxima(
        self, classifier: Classifier, pixels: Tensor, classes: Tensor, streams: Streams, radius: float
    ) -> Tensor:
        """The largest slopes of each batch, (N, targets, batches): as many batches of points at a time as the
        classifier takes."""
        owner = torch.arange(len(pixels)).repeat_interleave(self.samples)
        found = []
        for block in torch.arange(self.batches).split(max(1, classifier.batch_size // len(owner))):
            v = torch.cat([streams.select(owner).in_ball(self.norm, *pixels.shape[1:]) for _ in block])
            of = owner.repeat(len(block))
            points, wanted = (pixels[of] + radius * v).clamp(0, 1), classes[of]
            parts = [
                _slopes(classifier, x, c, self.norm)
                for x, c in zip(points.split(classifier.batch_size), wanted.split(classifier.batch_size), strict=True)
            ]
            found.append(torch.cat(parts).unflatten(0, (len(block), len(pixels), self.samples)).amax(2))
        return torch.cat(found).permute(1, 2, 0)


def _classes(logits: Tensor, labels: Tensor, targets: int) -> Tensor:
    """The label and the `targets` likeliest other classes of each image, (N, 1 + k)."""
    others = logits.scatter(1, labels[:, None], -torch.inf)
    return torch.cat([labels[:, None], others.topk(min(targets, logits.shape[1] - 1)).indices], dim=1)


def _slopes(classifier: Classifier, x: Tensor, classes: Tensor, norm: Norm) -> Tensor:
    """The dual norm of grad(f_c - f_j) at points x (M, C, H, W), c the first of `classes` (M, 1 + k), (M, k)."""
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        own, *others = classifier.differentiable(x).gather(1, classes).unbind(1)
        gradients = (classifier.pulled((own - other).sum(), x, again=other is not others[-1]) for other in others)
        return torch.stack([norm.dual.size(g) for g in gradients], dim=1)


def _ends(maxima: Tensor) -> tuple[Tensor, Tensor]:
    """The upper ends fitted to maxima (N, k, batches) and the fits' codes, (N, k) each."""
    # A fit of 1 ms is small beside the gradients behind its maxima.
    fits = [fit(row, 0.0, shapes=SHAPES) for row in maxima.double().flatten(0, 1).cpu().numpy()]
    table = torch.tensor([[gev.estimate, gev.code] for gev in fits], dtype=torch.float64)
    ends, codes = table.view(*maxima.shape[:2], 2).unbind(2)
    return ends, codes


def _columns(quantity: str, table: Tensor) -> tuple[tuple[str, float, Tensor], ...]:
    """The columns (N,) of a table (N, K) that hold a number, each at its class."""
    held = (~table.isnan()).any(0).nonzero()[:, 0].tolist()
    return tuple((quantity, float(j), table[:, j]) for j in held)
