"""Which bounds the images of a run have, norm by norm, and which of them meet."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from robusteval.analysis.results import Results
from robusteval.core.methods import Guarantee
from robusteval.core.norms import BALLS, Norm
from robusteval.results.bracket import HOLDS_IN
from robusteval.results.exact import is_exact

GUARANTEED = (Guarantee.PROOF, Guarantee.CONFIDENCE)
"""The kinds of lower bounds of which the table of bounds has the largest; estimates are never merged."""


@dataclass(frozen=True)
class NormBounds:
    """What the table of bounds holds in one norm beside the upper bound."""

    norm: Norm
    guaranteed: tuple[Guarantee, ...]
    """The kinds of which a certificate of the run holds in this norm."""
    estimates: tuple[str, ...]
    """The stages of the estimates of the model itself in this norm."""
    exact: bool = False
    """Whether the distance of any image is exact."""


def bounds_by_norm(results: Results, first: Norm) -> list[NormBounds]:
    """Of each norm with an attack or a lower bound; `first` leads and is always there, the others follow in the order
    of the protocol."""
    found = [bounds_in(results, norm) for norm in results.norms if norm != first]
    return [
        bounds_in(results, first),
        *(b for b in found if b.guaranteed or b.estimates or b.norm in results.attacked),
    ]


def bounds_in(results: Results, norm: Norm) -> NormBounds:
    ran = results.certificates_ran
    estimates = [r for r in ran if r.guarantee is Guarantee.ESTIMATE and r.subject == "f" and r.norm == norm]
    return NormBounds(
        norm,
        tuple(k for k in GUARANTEED if any(r.guarantee is k and r.norm in HOLDS_IN.get(norm, ()) for r in ran)),
        tuple(r.name for r in estimates),
        bool(exact_distances(results, norm).any()),
    )


def exact_distances(results: Results, norm: Norm) -> NDArray[np.bool_]:
    """Whether the distance of each image is exact in `norm`, in the order of the images: none is without a proof."""
    if norm not in BALLS:
        return np.zeros(len(results.images), dtype=bool)
    bounds = results.columns("bounds", [f"proof_{norm}", f"upper_{norm}"])
    return is_exact(bounds[f"proof_{norm}"], bounds[f"upper_{norm}"])
