"""Radii that proofs are asked for, in place of the largest: a question costs one bound computation, a search many."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, ClassVar, Literal, Self

import torch
from pydantic import BeforeValidator
from torch import Tensor

from robusteval.certify.base import Certificate
from robusteval.core.errors import UserError
from robusteval.core.images import Images
from robusteval.core.methods import Guarantee
from robusteval.core.numbers import finite

BUDGETS: Literal["budgets"] = "budgets"
Asked = tuple[float, ...] | dict[str, float] | Literal["budgets"] | None


def radii_asked(value: object) -> Asked:
    """Radii in pixel units, ascending, from numbers or fractions such as "8/255"; by image ids where they are a table;
    None for none. Raises ValueError for anything else."""
    if value is None or value == BUDGETS:
        return BUDGETS if value else None
    if isinstance(value, Mapping):
        return {str(image_id): _radius(radius) for image_id, radius in value.items()} or None
    return tuple(sorted(set(map(_radius, value if isinstance(value, list | tuple) else [value])))) or None


def _radius(value: object) -> float:
    expected = f'expected radii above zero such as ["8/255"], or "{BUDGETS}"'
    try:
        radius = finite(str(value))
    except ValueError:
        raise ValueError(expected) from None
    if radius <= 0 or isinstance(value, bool):
        raise ValueError(expected)
    return radius


class Proof(Certificate):
    """A PROOF for the model itself: the largest radius of each image that it finds, or the largest of those asked."""

    kind: ClassVar[Guarantee] = Guarantee.PROOF

    at: Annotated[Asked, BeforeValidator(radii_asked)] = None
    """Radii such as ["8/255"]: the radius of an image is the largest of these that is proven, 0 for none. "budgets" for
    those of the protocol in its norm, one table of image ids and radii for an own one of each image. None, or an empty
    list, for the largest radius that is found."""

    @property
    def limit(self) -> float | None:
        return self.at[-1] if isinstance(self.at, tuple) else None

    @property
    def says(self) -> str:
        if isinstance(self.at, tuple):
            shown = f"{self.at[0]:.3g}" if len(self.at) == 1 else f"{len(self.at)} radii up to {self.at[-1]:.3g}"
            return f" at {shown}"
        return " at a radius for each image" if self.at else ""

    def at_budgets(self, budgets: Sequence[float] | Mapping[str, float]) -> Self:
        if self.at != BUDGETS:
            return self
        if not budgets:
            raise UserError(f'expected budgets in {self.norm.symbol} for at = "{BUDGETS}", got none')
        return self.asked_at(budgets)

    def asked_at(self, budgets: Sequence[float] | Mapping[str, float]) -> Self:
        return self.model_copy(update={"at": radii_asked(budgets)})

    def questions(self, images: Images) -> Tensor | None:
        """The radii asked of N images, (N, Q) float64, the largest first; None where the largest is searched. Raises
        UserError where an image has none."""
        if self.at is None:
            return None
        if self.at == BUDGETS:
            raise UserError(f'expected radii in place of at = "{BUDGETS}" outside of a protocol, got none')
        if isinstance(self.at, tuple):
            asked = torch.tensor(self.at[::-1], dtype=torch.float64).expand(len(images), -1)
        else:
            lacking = next((image_id for image_id in images.ids if image_id not in self.at), None)
            if lacking is not None:
                raise UserError(f"expected a radius for each image in the table 'at', got none for '{lacking}'")
            asked = torch.tensor([[self.at[image_id]] for image_id in images.ids], dtype=torch.float64).reshape(-1, 1)
        return asked.to(images.pixels.device)
