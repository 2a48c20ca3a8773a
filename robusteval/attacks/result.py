"""What an attack called on plain tensors gives: adversarial examples, judged."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

from torch import Tensor

from robusteval.core.norms import Norm

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@dataclass(frozen=True, eq=False)
class AttackCost:
    """Evaluations of the attacked model for each image, forward and backward, (N,) each; the judge's not among them."""

    forwards: Tensor
    backwards: Tensor


@dataclass(frozen=True, eq=False)
class AttackResult:
    """Of N images, as the judge found them.

    examples (N, C, H, W): the adversarial example, the image itself where none was found or none was needed.
    success (N,) bool: misclassified, inside the box and the budget; a misclassified image is its own example.
    predicted (N,): the class of the example, the label where there is none.
    distances: by norm (Norm or "l0", "l1", "l2", "linf") the distance of each example (N,) float64 in pixel units:
    infinite where the attack failed, 0 for a misclassified image.
    cost: evaluations; measurements: what the attack measured on the way, (N,) by quantity, NaN where it did not.
    """

    attack: str
    norm: Norm
    examples: Tensor
    success: Tensor
    predicted: Tensor
    distances: Mapping[str, Tensor]
    cost: AttackCost
    measurements: Mapping[str, Tensor]

    def __len__(self) -> int:
        return len(self.success)

    def _facts(self) -> dict[str, str]:
        n, own = len(self), self.distances[self.norm]
        facts = {"attack": self.attack, "broken": f"{int(self.success.sum())} of {n}"}
        if n:
            ordered = own.sort().values
            facts[f"median {self.norm.symbol} distance"] = f"{float((ordered[(n - 1) // 2] + ordered[n // 2]) / 2):.4g}"
            facts["forwards an image"] = f"{float(self.cost.forwards.mean()):.1f}"
            facts["backwards an image"] = f"{float(self.cost.backwards.mean()):.1f}"
        return facts

    def __repr__(self) -> str:
        return f"AttackResult({', '.join(f'{k}: {v}' for k, v in self._facts().items())})"

    def _repr_html_(self) -> str:
        rows = "".join(f"<tr><th>{escape(k)}</th><td>{escape(v)}</td></tr>" for k, v in self._facts().items())
        return f"<table>{rows}</table>"

    def plot(self, norm: str | None = None, ax: Axes | None = None) -> Axes:
        """The share of images that the attack did not break, against distance; see robusteval.plot_attack."""
        from robusteval import plot_attack

        return plot_attack(self, norm, ax)
