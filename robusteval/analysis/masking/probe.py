"""Flags that follow from what the metric `gradient-masking` measured."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from robusteval.analysis import show
from robusteval.analysis.intervals import median
from robusteval.analysis.masking import signs as masking
from robusteval.analysis.masking.flag import Flag, flag, paired, plateau, rare
from robusteval.analysis.results import Results
from robusteval.core.norms import Norm
from robusteval.models.tolerances import RANDOM


class Probe:
    """The measurements of one run of the metric, on the images that are right."""

    def __init__(self, norm: str, results: Results, stage: str) -> None:
        self.norm = Norm(norm).symbol
        seen, columns = np.zeros(len(results.images), dtype=np.bool_), dict[tuple[str, float], NDArray[np.float64]]()
        for rows in results.pieces("measurements", ["image_id", "quantity", "at", "value"], stage):
            at = results.places_of(rows["image_id"])
            seen[at] = True
            key: Any
            for key, own in rows.assign(image=at).groupby(["quantity", "at"]):
                column = columns.setdefault(key, np.full(len(seen), np.nan))
                column[own["image"]] = own["value"]
        seen &= results.correct
        names = pd.MultiIndex.from_tuples(sorted(columns), names=["quantity", "at"]) if columns else None
        self.table = pd.DataFrame({i: columns[key][seen] for i, key in enumerate(sorted(columns))})
        self.table.columns = names if names is not None else self.table.columns

    def measured(self, quantity: str) -> bool:
        """Whether any image has a value of it."""
        return quantity in self.table.columns.get_level_values("quantity")

    def values(self, quantity: str, i: int = 0) -> NDArray[np.float64]:
        """Of the images, at the i-th place where the quantity was measured; NaN where it was not."""
        if not self.measured(quantity):
            return np.full(len(self.table), np.nan)
        return self.block(quantity).iloc[:, i].to_numpy(np.float64)

    def block(self, quantity: str) -> pd.DataFrame:
        return self.table.loc[:, [quantity]]

    def flags(self) -> Iterator[Flag]:
        if len(self.table):
            yield from self.outputs()
            yield from self.gradients()
            if self.measured("fooled"):
                self.table = self.table[self.block("fooled").notna().all(axis=1)]
                if len(self.table):
                    yield from self.attacks()

    def outputs(self) -> Iterator[Flag]:
        n = len(self.table)
        if (self.values("probabilities") == 1).all():
            yield flag("probability-outputs", f"On all {show.images(n)}.")
        random = ~(self.values("output_spread") <= RANDOM)
        yield from rare("random-outputs", random, "have other outputs when they are evaluated again")
        middle = median(np.nan_to_num(self.values("loss_variation"), nan=1.0))
        if middle.low > masking.UNSTABLE:
            interval = show.percents(middle.low, min(middle.high, 1.0))
            text = f"The margin of the median image changes by {show.percent(middle.value)} ({interval})"
            yield flag("unstable-predictions", f"{text}, {show.images(n)}.")

    def gradients(self) -> Iterator[Flag]:
        size, other = self.values("gradient_size"), self.values("gradient_size_margin")
        blocked = np.isnan(size)
        yield from rare("unavailable-gradients", blocked, "get no gradient from the model, which is not differentiable")
        none = (size == 0) & (other == 0)
        yield from rare("unavailable-gradients", none, "have a gradient that is zero everywhere, of either loss")
        lost = ~blocked & ~none & ~((size >= masking.VANISHING) & np.isfinite(size))
        yield from rare("vanishing-gradients", lost, "have a vanishing or non-finite gradient of the cross-entropy")

    def attacks(self) -> Iterator[Flag]:
        low, budget, high, _ = map(float, self.block("fooled").columns.get_level_values("at"))
        at, path = f"{self.norm} {show.budget(budget)}", f"of an ascent at {self.norm} {show.budget(budget)}"
        half, once, twice, unbounded = (self.values("fooled", i) == 1 for i in range(4))
        further = (self.values("fooled_more_steps") == 1) | (self.values("fooled_restarts") == 1)
        free = self.values("fooled_without_gradients") == 1
        p, text = paired(free, "the metric's search without gradients", once | further, "its ascents")
        if p <= masking.SIGNIFICANT:
            yield flag("gradient-free-wins", f"At {at}, {text}.")
        p, text = paired(half, f"an ascent at {show.budget(low)}", twice, f"one at {show.budget(high)}")
        if p <= masking.SIGNIFICANT:
            yield flag("error-stalls", f"In {self.norm}, {text}.")
        elif stalled := plateau(half, twice):
            yield flag("error-stalls", f"{self.norm}, from {show.budget(low)} to {show.budget(high)}: {stalled}")
        yield from rare(
            "more-finds-more", further & ~once, f"fall at {at} to more steps or restarts only", masking.MUCH_MORE
        )
        for name, quantity, what in (
            ("silent-success", "silent_success", f"were fooled on the way {path}, and not at its end"),
            ("transfer-failure", "transfer_failure", f"are right again after the success {path}"),
        ):
            yield from rare(name, self.values(quantity) == 1, what)
        late = (self.values("late_progress") > masking.UNSETTLED) & ~once
        yield from rare("incomplete-optimisation", late, f"withstood, the loss still rising at the end {path}")
        yield from rare("unconstrained-attack-failure", ~unbounded, f"withstand an ascent in {self.norm}, no limit")
