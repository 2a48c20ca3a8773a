"""Attack: settings that are the attack. It returns pictures; audit/judge.py decides what they are worth."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, ClassVar

from pydantic import model_validator
from torch import Tensor

from robusteval.classifier import Classifier
from robusteval.images import Images
from robusteval.methods import Method
from robusteval.norms import Norm
from robusteval.streams import Streams


class Attack(Method):
    """Search a misclassified picture near each image.

    A fixed-budget attack is given a radius and returns pictures within it; a minimum-distance attack is given
    None and returns pictures as close as it can. Where it finds nothing it returns the image itself.
    """

    norms: ClassVar[tuple[Norm, ...]]
    """The norms that `norm` may take."""
    fixed_budget: ClassVar[bool] = True
    on_sources: ClassVar[bool] = False
    """Whether it runs on each of the audit's source models, its pictures being judged on the target."""

    norm: Norm

    @abstractmethod
    def run(self, classifier: Classifier, images: Images, budget: float | None, streams: Streams) -> Tensor:
        """Candidates (N, C, H, W) in [0, 1] for N correctly classified images (N, C, H, W)."""

    @property
    def label(self) -> str:
        return f"{self.name}-{self.norm.value}"

    @model_validator(mode="before")
    @classmethod
    def _default_norm(cls, settings: Any) -> Any:
        """An attack that knows a single norm need not be told it."""
        if isinstance(settings, dict) and "norm" not in settings and len(cls.norms) == 1:
            return {**settings, "norm": cls.norms[0]}
        return settings

    @model_validator(mode="after")
    def _known_norm(self) -> Attack:
        if self.norm not in self.norms:
            names = ", ".join(n.value for n in self.norms)
            raise ValueError(f"expected norm in {names} for {self.name}, got {self.norm.value}")
        return self
