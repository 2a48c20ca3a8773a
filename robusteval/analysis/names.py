"""The names that people read, and those of one run: methods, norms, guarantees, states of a fit."""

from __future__ import annotations

from robusteval.analysis import show
from robusteval.core.norms import Norm

ALL = "all attacks"
"""The worst case over every attack of a run."""
CLEAN = "the image itself"
"""What found the witness of an image that is misclassified as it is."""


def axis(norm: str) -> str:
    """What an axis of distances says."""
    return "L0 distance (pixel values changed)" if norm == "l0" else f"{Norm(norm).symbol} distance (pixels in [0, 1])"


def at(norm: str, budget: float) -> str:
    """Linf 8/255."""
    return f"{Norm(norm).symbol} {show.budget(budget)}"


def bare(title: str, norm: str) -> str:
    """A title without its norm, for where a heading or an axis names that."""
    return title.removesuffix(f", {Norm(norm).symbol}")


def subject(key: str) -> str:
    """The classifier that a bound speaks of, in words."""
    if key.startswith("top-"):
        return f"the model's {key.removesuffix('(f)')} correctness"
    return "the model" if key == "f" else f"the smoothed model {key}"
