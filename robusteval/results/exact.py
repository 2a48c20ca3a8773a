"""When the distance of an image is exact: where a proof and a witness meet. Imports no torch."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from robusteval.core.norms import BALLS, Norm

EXACT_WITHIN = 0.01
"""How much farther than the largest proven radius, relative, the closest witness may lie. Stated here only."""
WITHIN = f"{100 * EXACT_WITHIN:g} %"
"""The same as people read it."""
EXACT_COLUMNS: dict[Norm, str] = {norm: f"exact_{norm}" for norm in BALLS}
"""The columns of the table of bounds that say it: they follow from its other columns, and runs of before lack them."""


def is_exact(proof: ArrayLike, upper: ArrayLike) -> NDArray[np.bool_]:
    """Of images with their largest proven radii and the distances of their closest witnesses, both (N,) in one norm in
    full precision, whether the minimum distance is known to EXACT_WITHIN: it lies between the two.

    Never where nothing is proven (a misclassified image among them), nor where a witness refutes the proof. An image
    with an unbounded radius has no witness, and its distance is known: infinite.
    """
    low, high = np.asarray(proof, dtype=np.float64), np.asarray(upper, dtype=np.float64)
    found: NDArray[np.bool_] = (low > 0) & (low <= high) & (high <= (1 + EXACT_WITHIN) * low)
    return found
