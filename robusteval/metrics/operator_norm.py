"""Operator norms of the Jacobian: how far the outputs can move, measured in l_q, when the pixels move by 1 in l_p."""

from __future__ import annotations

from typing import ClassVar

import torch
from pydantic import PositiveInt
from torch import Tensor

from robusteval.core import memory
from robusteval.core.images import Images
from robusteval.core.methods import Quantity
from robusteval.core.norms import BALLS, Norm
from robusteval.core.passes import Passes
from robusteval.core.streams import Streams
from robusteval.metrics.base import ImageMetric, Measurement
from robusteval.models.classifier import Classifier
from robusteval.numerics.jacobian import Of, jacobians, outputs, spectrum

FEW = 12
"""Up to so many outputs the 2^(outputs - 1) sign vectors of (2, 1) and (inf, 1) are tried one and all."""
ENTRIES = 2**22
"""Products with sign vectors held at a time: 32 MB."""


class OperatorNorm(ImageMetric):
    """`operator_norm_<p>_<q>`, p and q each 1, 2 or inf: |J|_{p,q}, the maximum of |J v|_q over |v|_p = 1.

    OpNorm Eq. 8 and table 1, of the Jacobian J of the logits (or of the penultimate features): exact up to rounding
    where a closed form exists (columns for p = 1, rows for q = inf, the largest singular value for (2, 2)), and in
    (2, 1) and (inf, 1), which are NP-hard in general, for up to 12 outputs, by trying all sign vectors. What remains
    is a lower estimate and named so: `operator_norm_inf_2_at_least`, and for more outputs also
    `operator_norm_2_1_at_least` and `operator_norm_inf_1_at_least`. It is a value that |J v|_q reaches, by the power
    method of Eq. 12 from several starts; the maximum may be larger. Units: output units per pixel unit of l_p.
    J alone costs a forward and as many backwards as there are outputs; the rest needs no further evaluation.
    """

    name: ClassVar[str] = "operator-norm"
    title: ClassVar[str] = "Operator norms"
    summary: ClassVar[str] = "(p, q) operator norms of the Jacobian (OpNorm, section 4.2, table 1)"
    quantities = (
        Quantity(name="operator_norm_{p}_{q}_at_least", title="({p}, {q}) norm, at least"),
        Quantity(name="operator_norm_{p}_{q}", title="({p}, {q}) norm"),
    )

    of: Of = "logits"
    starts: PositiveInt = 10
    """Of the power method, so many of each kind: leading singular vectors, largest rows, random directions."""
    iterations: PositiveInt = 100
    """Of the power method, at most; it ends when nothing moves."""

    def passes(self, images: int, classes: int) -> Passes | None:
        return Passes(1, classes) * images if self.of == "logits" else None

    @property
    def says(self) -> str:
        return f" of the {self.of}"

    def measure(
        self, classifier: Classifier, images: Images, witnesses: Tensor | None, streams: Streams
    ) -> list[Measurement]:
        values: dict[str, list[Tensor]] = {}
        first = 0
        for j in jacobians(outputs(classifier, self.of), images.pixels, classifier.batch_size):
            rows = torch.arange(first, first + len(j))
            first += len(j)
            random = streams.select(rows).normal(self.starts, j.shape[2]).double()
            for quantity, found in self._norms(j.double(), random).items():
                values.setdefault(quantity, []).append(found)
        return [Measurement(quantity, 0, torch.cat(parts)) for quantity, parts in values.items()]

    def _norms(self, j: Tensor, random: Tensor) -> dict[str, Tensor]:
        found = {}
        for p in BALLS:
            for q in BALLS:
                exact = operator_norm(j, p, q)
                if exact is not None:
                    found[quantity(p, q)] = exact
                else:
                    begun = torch.cat([_good_starts(j, p, self.starts), random], dim=1)
                    reached, _ = power_method(j, begun, p, q, self.iterations)
                    found[f"{quantity(p, q)}_at_least"] = reached.amax(1)
        return found


def quantity(p: Norm, q: Norm) -> str:
    return f"operator_norm_{p.value[1:]}_{q.value[1:]}"


def operator_norm(j: Tensor, p: Norm, q: Norm) -> Tensor | None:
    """|J|_{p,q} of matrices (N, F, D), (N,), exact up to rounding; None where that is out of reach: (inf, 2), and
    (2, 1) and (inf, 1) of more than FEW outputs."""
    if p is Norm.L1:
        return _largest(j, q, dim=1)
    if q is Norm.LINF:
        return _largest(j, p.dual, dim=2)
    if p is q:
        return spectrum(j)[:, 0]
    if q is Norm.L1 and j.shape[1] <= FEW:
        return by_signs(j, p)
    return None


def _largest(j: Tensor, norm: Norm, dim: int) -> Tensor:
    """The largest size of a column (dim 1) or of a row (dim 2)."""
    sizes: Tensor = torch.linalg.vector_norm(j, ord=norm.p, dim=dim)
    return sizes.amax(1)


def by_signs(j: Tensor, p: Norm) -> Tensor:
    """|J|_{p,1} of matrices (N, F, D), (N,): the largest of |J^T s|_{p*} over all sign vectors s.

    |J v|_1 is the maximum of <s, J v>, and that of <J^T s, v> over |v|_p = 1 is |J^T s|_{p*} (Hölder). Half of the
    2^F vectors do: s and -s give the same.
    """
    n, outputs, inputs = j.shape
    numbers = torch.arange(2 ** (outputs - 1), device=j.device)
    signs = 1.0 - 2.0 * (numbers[:, None] >> torch.arange(outputs, device=j.device) & 1).to(j)
    best = torch.zeros(n, dtype=j.dtype, device=j.device)
    for part in signs.split(memory.rows(ENTRIES, n * inputs)):
        sizes: Tensor = torch.linalg.vector_norm(part @ j, ord=p.dual.p, dim=2)
        best = best.maximum(sizes.amax(1))
    return best


def power_method(j: Tensor, v: Tensor, p: Norm, q: Norm, iterations: int) -> tuple[Tensor, Tensor]:
    """OpNorm Eq. 12 from starts v (N, R, D): what |J v|_q has come to, (N, R), and the v with |v|_p = 1, (N, R, D).

    Every step is the Hölder maximiser (Lemma 1) of the linear function of the step before, so |J v|_q never falls,
    and what it reaches is a lower bound of |J|_{p,q}. Deviation: of equal entries the first takes all where the norm
    says so (u for q = inf, v for p = 1); the paper shares it out.
    """
    for _ in range(iterations):
        u = _steepest(q.dual, v @ j.mT)
        before, v = v, _steepest(p, u @ j)
        if torch.equal(before, v):
            break
    reached: Tensor = torch.linalg.vector_norm(v @ j.mT, ord=q.p, dim=2)
    return reached, v


def _steepest(norm: Norm, z: Tensor) -> Tensor:
    return norm.steepest(z.flatten(0, 1)).view_as(z)


def _good_starts(j: Tensor, p: Norm, count: int) -> Tensor:
    """Directions (N, R, D) in which J is known to stretch: leading right singular vectors, and its largest rows."""
    # J^T u is the right singular vector of the left one u, times its singular value.
    # A Jacobian that is not finite has none: what it stretches comes out as NaN below.
    left = torch.linalg.eigh((j @ j.mT).nan_to_num(0, 0, 0)).eigenvectors.flip(2)[:, :, :count]
    sizes: Tensor = torch.linalg.vector_norm(j, ord=p.dual.p, dim=2)
    rows = sizes.topk(min(count, j.shape[1]), dim=1).indices
    return torch.cat([left.mT @ j, j.gather(1, rows[:, :, None].expand(-1, -1, j.shape[2]))], dim=1)
