"""The leaderboard as data: what leaderboard.json holds, validated on the way in and documented by its JSON schema."""

from __future__ import annotations

import math
import re
from array import array
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import BeforeValidator, ConfigDict, Field, PlainSerializer, field_validator

from robusteval.analysis.leaderboard.packed import ByImage, ImageIds
from robusteval.core.norms import Norm
from robusteval.results.manifest import ProtocolRecord
from robusteval.results.records import CLEAN, Frozen

if TYPE_CHECKING:
    from matplotlib.axes import Axes

ROBUST = "robust_"
"""Begins the key of a column of robust accuracy at one budget: robust_<norm>_<budget as shown>, or own
where each image has its own."""
CERTIFIED = "certified_"
"""Begins the key of a column of certified accuracy at one budget: certified_<norm>_<budget as shown>, of all proofs of
the model itself; with _<stage> behind it, of one certificate of another classifier made of it."""
EXACT = "exact_"
"""Begins the key of a column of exact distances: exact_<norm>."""
WORST = "worst_case"
"""The key of robust accuracy over all budgets."""
_AT = re.compile(f"(?:{ROBUST}|{CERTIFIED})[^_]+_([^_]+)(_.*)?")


def _from_json(value: float | None) -> float:
    return math.inf if value is None else value


def _to_json(value: float) -> float | None:
    return None if math.isinf(value) else value


Number = Annotated[float, BeforeValidator(_from_json), PlainSerializer(_to_json, return_type=float | None)]
"""A number; null in JSON is infinity (no witness was found), which JSON does not have."""


class BoardColumn(Frozen):
    """What is compared: in which unit, which way is better, and how it is read."""

    key: str
    title: str
    kind: Literal["share", "upper", "lower", "radius", "cost"]
    """share: of images, an exact or upper number; lower: a share that is at least this; upper: a distance that is at
    most this; radius: a mean radius that is at least (or estimated) this; cost: evaluations of the model an image."""
    norm: Norm | None = None
    higher_is_better: bool = True
    note: str = ""

    @property
    def budget(self) -> str | None:
        """The budget of a column of robust or certified accuracy, as shown; None for the others."""
        found = _AT.fullmatch(self.key)
        return found[1] if found else None

    @property
    def of_another(self) -> bool:
        """Whether it is of certified accuracy, but of another classifier than the model itself."""
        found = _AT.fullmatch(self.key)
        return found is not None and found[2] is not None

    @property
    def robust(self) -> bool:
        """Whether it is of robust accuracy at one budget."""
        return self.key.startswith(ROBUST) and self.budget is not None


class Score(Frozen):
    """One number of one model with its 95 % interval over images, as shown, and its place.

    `images` are its values image by image, in the order of the board's images, by which models are compared; empty
    where they are not. `rank` is 1 + the number of models that are significantly better, `rank_last` the number of
    models minus those significantly worse; `ties` names the models that are not significantly different.
    """

    model_config = ConfigDict(allow_inf_nan=True)
    # A median distance may be infinite.

    value: Number
    low: Number
    high: Number
    shown: str
    interval: str
    images: ByImage = array("d")
    rank: int | None = None
    rank_last: int | None = None
    ties: tuple[str, ...] = ()


class TransferScore(Frozen):
    """The accuracy of one model under the images that one attack made on another: of the images, at most this share."""

    attack: str
    """Its title."""
    norm: Norm
    budget: float = Field(gt=0, allow_inf_nan=False)
    source: str
    accuracy: float = Field(ge=0, le=1)


class BoardEntry(Frozen):
    """One model: its scores by the key of their column."""

    model: str
    fingerprint: str
    architecture: str | None
    training: str | None = None
    """How it was trained, as its card says; None without a card."""
    run: str
    """The run directory that it was read from."""
    scores: dict[str, Score]
    autoattack: dict[str, Number] = Field(default_factory=dict)
    """Accuracy under the standard AutoAttack alone, at most, by the key of the column of its budget; empty where it did
    not run."""
    flags: tuple[str, ...] = ()
    """Serious signs of gradient masking: its robust accuracy may be too high."""
    transfer: tuple[TransferScore, ...] = ()

    @field_validator("scores")
    @classmethod
    def _with_clean(cls, scores: dict[str, Score]) -> dict[str, Score]:
        if CLEAN not in scores:
            raise ValueError(f"expected a score '{CLEAN}', the accuracy on the images as they are, in each entry")
        return scores


class Board(Frozen):
    """Models audited with the same protocol on the same images, best first in the first column that ranks them."""

    format: Literal["robusteval leaderboard"] = "robusteval leaderboard"
    version: Literal[2] = 2
    robusteval: str
    data: str
    data_fingerprint: str
    images: ImageIds
    protocol: ProtocolRecord
    columns: tuple[BoardColumn, ...]
    entries: tuple[BoardEntry, ...]

    @field_validator("columns")
    @classmethod
    def _with_clean_accuracy(cls, columns: tuple[BoardColumn, ...]) -> tuple[BoardColumn, ...]:
        if all(column.key != CLEAN for column in columns):
            raise ValueError(f"expected a column '{CLEAN}', the accuracy on the images as they are")
        return columns

    @field_validator("entries")
    @classmethod
    def _with_a_model(cls, entries: tuple[BoardEntry, ...]) -> tuple[BoardEntry, ...]:
        if not entries:
            raise ValueError("expected at least one model")
        return entries

    @property
    def ranked_by(self) -> BoardColumn:
        """The column by which the models are ranked: robust accuracy over all budgets, at the only one, or, where no
        attack ran, clean accuracy."""
        by_key = {column.key: column for column in self.columns}
        robust = next((column for column in self.columns if column.robust), None)
        return by_key.get(WORST) or robust or by_key[CLEAN]

    def plot(self, ax: Axes | None = None) -> Axes:
        """Each model's accuracies with their intervals, the best model at the top; see robusteval.plot_board."""
        from robusteval import plot_board

        return plot_board(self, ax)
