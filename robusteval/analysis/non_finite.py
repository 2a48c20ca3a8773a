"""Answers of a model that are not finite, as methods that ask for many count them."""

from __future__ import annotations

from dataclasses import dataclass

from robusteval.analysis.results import Results

QUANTITY = "non_finite"
"""The measurement, of each image, in which a method counts them; the same for every method that does."""


@dataclass(frozen=True)
class Unanswered:
    """How many answers of a stage were not finite, and of how many images."""

    title: str
    answers: int
    images: int

    def __str__(self) -> str:
        """One sentence."""
        what, some = ("answer", "was") if self.answers == 1 else ("answers", "were")
        return (
            f"{self.title}: {self.answers:,} {what} of the model, on {self.images:,} "
            f"{'image' if self.images == 1 else 'images'}, {some} not finite and {some} taken for no class."
        )


def unanswered(results: Results, stage: str) -> Unanswered | None:
    """Of one stage; None where all that it was told is finite, or it does not count that."""
    rows = results.rows("measurements", stage, ["image_id", "value"], [QUANTITY])
    rows = rows[rows["value"] > 0]
    if rows.empty:
        return None
    return Unanswered(results.titles[stage], int(rows["value"].sum()), int(rows["image_id"].nunique()))
