"""The names that people read, and those of one run: methods, norms, guarantees, states of a fit."""

from __future__ import annotations

from robusteval.analysis import show
from robusteval.core.norms import Norm

ALL = "all attacks"
"""The worst case over every attack of a run."""
SMOOTHED = "the model smoothed with noise"
"""Before the standard deviation of the noise."""
OWN = "own"
"""A budget that each image has for itself, where a word stands for it."""
CLEAN = "the image itself"
"""What found the witness of an image that is misclassified as it is."""


def axis(norm: str) -> str:
    """What an axis of distances says."""
    return "L0 distance (pixel values changed)" if norm == "l0" else f"{Norm(norm).symbol} distance (pixels in [0, 1])"


def at(norm: str, budget: float | None) -> str:
    """Linf 8/255; without a budget each image's own Linf budget."""
    symbol = Norm(norm).symbol
    return f"each image's own {symbol} budget" if budget is None else f"{symbol} {show.budget(budget)}"


def bare(title: str, norm: str) -> str:
    """A title without its norm, for where a heading or an axis names that."""
    return title.removesuffix(f", {Norm(norm).symbol}")


def subject(key: str) -> str:
    """The classifier that a bound speaks of, in words: of smooth(f, 0.25) "the model smoothed with noise 0.25"."""
    if key.startswith("top-"):
        return f"the model's {key.removesuffix('(f)')} correctness"
    if key == "f":
        return "the model"
    return f"{SMOOTHED} {_levels(key.removeprefix('smooth(f, ').removesuffix(')').strip('{}').split(', '))}"


def _levels(sigmas: list[str]) -> str:
    return sigmas[0] if len(sigmas) == 1 else f"{', '.join(sigmas[:-1])} or {sigmas[-1]}"


def alpha_meaning(alpha: str) -> str:
    """What alpha says."""
    return f"the bound of each image may be wrong with a probability of at most {alpha}, from the noise that was drawn"


def smoothed_formula(levels: str) -> str:
    """What `subject` says of a smoothed model, exactly."""
    return (
        f"smooth(f, {levels}): g(x) = argmax over c of P(f(x + e) = c), e ~ N(0, s² I), s = {levels}; the class that "
        "the model f names most often when Gaussian noise of standard deviation s is added to the pixels"
    )
