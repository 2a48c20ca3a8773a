"""Alignment of adversarial perturbations with the singular vectors of the Jacobian."""

from __future__ import annotations

from typing import ClassVar, Self

import torch
from pydantic import model_validator
from torch import Tensor
from torch.nn.functional import normalize

from robusteval.core.images import Images
from robusteval.core.methods import Quantity
from robusteval.core.passes import Passes
from robusteval.core.streams import Streams
from robusteval.metrics.base import Measurement
from robusteval.metrics.twinned import Twinned
from robusteval.models.classifier import Classifier
from robusteval.numerics.jacobian import outputs
from robusteval.numerics.singular import Singular, singular_vectors


class Alignment(Twinned):
    """`alignment` at rank r: |cosine| between an adversarial perturbation and v_r, the r-th right singular vector of
    the Jacobian of the features (or logits) at the image; `alignment_twin` with those of the network with random
    weights, at the same image.

    OpNorm section 5.2, figure 2 (right); the paper does not say that it takes the magnitude, but a singular vector has
    no sign. The perturbation is that of an `ascent` at one `budget`, all of its steps on every image, as the paper's;
    or that of the closest witness of the attack `witnesses`, which stopped early. A direction at random in D dimensions
    has Gamma(D / 2) / (sqrt(pi) Gamma((D + 1) / 2)), about sqrt(2 / (pi D)), on average.

    Where singular values are equal, or nearer than 1e-5 of the largest (1e-3 where they come from
    `singular.leading`), their vectors are an arbitrary basis of the space that they span, and each gets the root mean
    square over all of these: it is the same for every basis. Alone a value gets its own |cosine|. NaN where there is
    no witness, or no perturbation, or where the singular value is zero by the same measure: any direction that the
    outputs ignore could be that vector. Cost: that of the spectrum, of the network and of its twin.
    """

    name: ClassVar[str] = "alignment"
    title: ClassVar[str] = "Alignment with singular vectors"
    summary: ClassVar[str] = "cosine of adversarial perturbations with the Jacobian's singular vectors (OpNorm, 5.2)"
    quantities = (
        Quantity(name="alignment", title="of the network"),
        Quantity(name="alignment_twin", title="of random weights"),
    )

    def passes(self, images: int, classes: int) -> Passes | None:
        return Passes(1, classes) * (2 * images) if self.of == "logits" else None

    @model_validator(mode="after")
    def _of_something(self) -> Self:
        if self.ascent is None and self.witnesses is None:
            raise ValueError(f"expected witnesses or ascent for {self.name}, got neither")
        return self

    @property
    def label(self) -> str:
        label = f"{self.name}-{self.witnesses or 'ascent'}"
        return label if self.of == "features" else f"{label}-{self.of}"

    def measure(
        self, classifier: Classifier, images: Images, witnesses: Tensor | None, streams: Streams
    ) -> list[Measurement]:
        perturbed = self.perturbed(classifier, images, witnesses, streams)
        assert perturbed is not None
        perturbations = (perturbed - images.pixels).flatten(1).double()
        rows = (perturbations.isfinite().all(1) & (perturbations != 0).any(1)).nonzero()[:, 0]
        if not len(rows):
            return []
        measured = []
        for quantity, network in self.networks(classifier, "alignment").items():
            found = self._cosines(network.select(rows), images.pixels[rows], perturbations[rows], streams.select(rows))
            cosines = found.new_full((len(images), found.shape[1]), torch.nan)
            cosines[rows] = found
            measured += [Measurement(quantity, rank, values) for rank, values in enumerate(cosines.T, start=1)]
        return measured

    def _cosines(self, classifier: Classifier, pixels: Tensor, perturbations: Tensor, streams: Streams) -> Tensor:
        """(N, k) for images (N, C, H, W) and perturbations (N, D)."""
        f, start, parts = outputs(classifier, self.of), 0, []
        for found in singular_vectors(f, pixels, self.ranks, classifier.batch_size, streams):
            some = perturbations[start : start + len(found.values)]
            parts.append(cosines(found, some)[:, : self.ranks])
            start += len(some)
        return torch.cat(parts)


def cosines(found: Singular, perturbations: Tensor) -> Tensor:
    """|cosine| of perturbations (N, D) with each right singular vector, (N, k): the root mean square over those whose
    singular values are not told apart, NaN where these are not told from zero."""
    squares = (found.vectors @ normalize(perturbations, dim=1)[:, :, None])[:, :, 0].square()
    values, apart = found.values, found.resolution * found.values[:, :1]
    # The k-th value starts a space of its own where it is apart from the one before it.
    space = torch.zeros_like(values, dtype=torch.int64)
    space[:, 1:] = (~(values[:, :-1] - values[:, 1:] <= apart)).cumsum(1)
    sums = torch.zeros_like(squares).scatter_add(1, space, squares)
    sizes = torch.zeros_like(squares).scatter_add(1, space, torch.ones_like(squares))
    return torch.where(values > apart, (sums / sizes).gather(1, space).sqrt(), torch.nan)
