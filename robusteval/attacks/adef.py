"""ADef: an adversarial deformation: the pixels of the image are moved, smoothly, and none is recoloured.

Alaifari, Alberti & Gauksson (2019), in SmoothKernels' comparison: the deformed image is image(p + tau(p)) at each
pixel p, by bilinear interpolation. As DeepFool does for pixels, every step linearises the difference f of a candidate's
logit and the label's in the vector field tau and solves for f = 0 with the smallest field, smoothed by a Gaussian
filter S: with a = sum over channels of df/dpixel * dimage/dplace, the step is -f S S a / |S a|^2, and the candidate
whose step is shortest wins. The length of a field is the paper's T-norm, the largest Euclidean length of its vectors,
in pixels; it is kept as the measurement "deformation". Candidates are the classes most likely at the image.

Deviations. The image is deformed once, by the sum of the steps, so that interpolation does not blur it again and again,
and dimage/dplace (central differences) is taken where the field points. A step is at most `longest` pixels, as far as a
linearisation of an image is taken to hold. The overshoot stretches every step, and a hundredth of the image's own f is
added to it: steps that fall short of the boundary might otherwise do so for ever. In the end it is taken back: the
field is shrunk, by bisection, as far as the image stays misclassified. No vector points out of the image.
"""

from __future__ import annotations

import torch
from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt
from torch import Tensor
from torch.nn import functional

from robusteval.attacks.base import Candidates, MinimumDistanceAttack
from robusteval.attacks.search.active import keep
from robusteval.core.errors import UnsupportedError
from robusteval.core.images import Images
from robusteval.core.methods import Quantity
from robusteval.core.norms import Norm, column
from robusteval.core.passes import USUAL, Passes
from robusteval.core.streams import Streams
from robusteval.models.answers import misclassified
from robusteval.models.classifier import Classifier

BEYOND = 0.01
"""How far behind the boundary every step aims besides the overshoot, as a part of the image's own gap: iterates that
only approach the boundary would end in a draw."""


class ADef(MinimumDistanceAttack):
    """Smooth deformation of the image. The norm says only under which it is listed: the deformation minimises neither.

    A step costs 2 forwards and `candidates` + 1 backwards.
    """

    name = "adef"
    title = "ADef"
    summary = "iterative smooth deformation of the image (Alaifari et al. 2019)"
    quantities = (Quantity(name="deformation", title="deformation (pixels)"),)
    norms = (Norm.L2, Norm.LINF)

    steps: PositiveInt = 100
    candidates: PositiveInt = 9
    """Classes tried besides the label."""
    sigma: PositiveFloat = 1.0
    """Standard deviation of the filter, in pixels."""
    overshoot: float = Field(1.2, ge=1)
    longest: PositiveFloat = 1.0
    """Of a step, in pixels."""
    halvings: NonNegativeInt = 10

    def passes(self, images: int, classes: int) -> Passes:
        steps = min(self.steps, USUAL)
        return Passes(2 * steps, steps * min(self.candidates + 1, classes)) * images

    @property
    def says(self) -> str:
        return f", sigma {self.sigma:g}"

    def gradients(self, classes: int) -> int:
        return min(self.candidates + 1, classes)

    def closest(self, classifier: Classifier, images: Images, streams: Streams) -> Candidates:
        field, fooled = self.fields(classifier, images)
        moved = fooled & (length(field) > 0)
        points = torch.where(column(moved, images.pixels), deform(images.pixels, field), images.pixels)
        return Candidates(points, {"deformation": torch.where(fooled, length(field), torch.nan)})

    def fields(self, classifier: Classifier, images: Images) -> tuple[Tensor, Tensor]:
        """The vector fields (N, 2, H, W) found, down and right, in pixels; and which of them fool, (N,)."""
        if min(images.shape[1:]) < 2:
            raise UnsupportedError(f"expected images of at least 2x2 pixels for adef, got {images.shape}")
        field = images.pixels.new_zeros(len(images), 2, *images.shape[1:])
        fooled = torch.zeros(len(images), dtype=torch.bool, device=field.device)
        slopes = torch.stack(torch.gradient(images.pixels, dim=(2, 3)), dim=2)
        clean = classifier.predict(images.pixels)
        others = clean.scatter(1, images.labels[:, None], -torch.inf).argsort(dim=1, descending=True)
        others = others[:, : min(self.candidates, classifier.num_classes - 1)]
        beyond = BEYOND * gaps(clean, images.labels, others)
        rows = torch.arange(len(images), device=field.device)
        logits = clean
        for _ in range(self.steps):
            wrong = misclassified(logits, images.labels[rows])
            fooled[rows[wrong]] = True
            rows, logits = keep(~wrong, rows, logits)
            if not len(rows):
                break
            view, chosen, own, slope, classes, more = keep(rows, classifier, images, field, slopes, others, beyond)
            field[rows] = inside(own + self._step(view, chosen, own, slope, classes, more))
            logits = view.predict(deform(chosen.pixels, field[rows]))
        fooled[rows] = misclassified(logits, images.labels[rows])
        won = fooled.nonzero()[:, 0]
        if len(won):
            field[won] = self._shrunk(*keep(won, classifier, images, field))
        return field, fooled

    def _step(
        self, classifier: Classifier, images: Images, field: Tensor, slope: Tensor, classes: Tensor, beyond: Tensor
    ) -> Tensor:
        """The shortest step (N, 2, H, W) that takes the logits of one of the classes (N, k) past the label's by
        -beyond (N, k), if the linearisation holds; slope (N, C, 2, H, W) is that of the image."""
        both = torch.cat([images.labels[:, None], classes], dim=1)
        logits, jacobian = classifier.jacobian(deform(images.pixels, field), both)
        gap = gaps(logits, images.labels, classes)
        there = deform(slope.flatten(1, 2), field).view_as(slope)
        steepness = torch.einsum("nkchw,ncdhw->nkdhw", jacobian[:, 1:] - jacobian[:, :1], there)
        smooth = blurred(steepness, self.sigma)
        energy = smooth.square().sum(dim=(2, 3, 4))
        factor = torch.where(energy > 0, -(self.overshoot * gap + beyond) / energy, 0.0)
        steps = factor[:, :, None, None, None] * blurred(smooth, self.sigma)
        sizes = length(steps.flatten(0, 1)).view_as(gap)
        best = torch.where(sizes > 0, sizes, torch.inf).nan_to_num(torch.inf).argmin(dim=1)
        one = torch.arange(len(best), device=best.device)
        size = sizes[one, best].clamp_min(torch.finfo(sizes.dtype).tiny)
        return column((self.longest / size).clamp_max(1), field) * steps[one, best].nan_to_num(0)

    def _shrunk(self, classifier: Classifier, images: Images, field: Tensor) -> Tensor:
        """The fields that fool, (N, 2, H, W), scaled down as far as they still do."""
        low, high = (torch.full_like(field[:, 0, 0, 0], end) for end in (0.0, 1.0))
        for _ in range(self.halvings):
            middle = (low + high) / 2
            logits = classifier.predict(deform(images.pixels, column(middle, field) * field))
            wrong = misclassified(logits, images.labels)
            low, high = torch.where(wrong, low, middle), torch.where(wrong, middle, high)
        return column(high, field) * field


def gaps(logits: Tensor, labels: Tensor, classes: Tensor) -> Tensor:
    """The logits of the classes (N, k) minus the label's, (N, k)."""
    return logits.gather(1, classes) - logits.gather(1, labels[:, None])


def deform(points: Tensor, field: Tensor) -> Tensor:
    """Images (N, C, H, W) whose pixel p takes the value at p + field(p), field (N, 2, H, W) down and right in pixels;
    bilinear, constant beyond the margins."""
    height, width = points.shape[2:]
    scale = 2 / (torch.tensor([height, width]).to(field) - 1).view(2, 1, 1)
    grid = ((places(field) + field) * scale - 1).flip(1).movedim(1, 3)
    low, high = points.amin(dim=(2, 3), keepdim=True), points.amax(dim=(2, 3), keepdim=True)
    moved = functional.grid_sample(points, grid, mode="bilinear", padding_mode="border", align_corners=True)
    return moved.clamp(low, high)


def length(field: Tensor) -> Tensor:
    """The T-norm of fields (N, 2, H, W): the largest Euclidean length of their vectors, (N,)."""
    longest: Tensor = torch.linalg.vector_norm(field, dim=1).flatten(1).amax(1)
    return longest


def inside(field: Tensor) -> Tensor:
    """The field (N, 2, H, W) cut so that every vector ends in the image."""
    here = places(field)
    ends = torch.tensor(field.shape[2:]).to(field).view(2, 1, 1) - 1
    return torch.minimum((here + field).clamp_min(0), ends) - here


def places(field: Tensor) -> Tensor:
    """Each pixel's row and column, (2, H, W)."""
    down, right = (torch.arange(n).to(field) for n in field.shape[2:])
    return torch.stack(torch.meshgrid(down, right, indexing="ij"))


def blurred(points: Tensor, sigma: float) -> Tensor:
    """A Gaussian filter of (..., H, W), zero beyond the margins: a symmetric linear map, as the method needs."""
    down, right = (_kernel(n, sigma).to(points) for n in points.shape[-2:])
    return down @ points @ right


def _kernel(n: int, sigma: float) -> Tensor:
    apart = torch.arange(n, dtype=torch.float64)[:, None] - torch.arange(n)
    whole = torch.arange(-n, n + 1, dtype=torch.float64)
    return torch.exp(-(apart**2) / (2 * sigma**2)) / torch.exp(-(whole**2) / (2 * sigma**2)).sum()
