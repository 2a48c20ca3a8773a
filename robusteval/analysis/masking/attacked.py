"""Flags that follow from the witnesses of a run alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from robusteval.analysis import names, show
from robusteval.analysis.curves import within
from robusteval.analysis.masking import signs as masking
from robusteval.analysis.masking.flag import Flag, Hits, flag, paired, plateau, rare
from robusteval.analysis.results import Results
from robusteval.core.norms import BALLS
from robusteval.results.records import AttackRecord


class Attacked:
    """What the attacks of a run did to the images that are right."""

    def __init__(self, results: Results, right: pd.Series[str]) -> None:
        self.results, self.right = results, right
        self.done = results.attacks_ran

    @cached_property
    def distances(self) -> dict[str, NDArray[np.float64]]:
        """By stage, in its own norm."""
        return {e.name: self.results.distances(e.norm, e.name)[self.results.correct] for e in self.done}

    def following(self, guide: str) -> Sequence[AttackRecord]:
        """The attacks that a model's gradients, its outputs, or another model show the way (attacks/base.py)."""
        return [e for e in self.done if e.follows == guide]

    def fooled(self, entries: Sequence[AttackRecord], budget: float | None) -> Hits:
        """Which images one of these attacks, all of one norm, fools within the budget, each image's own for None."""
        nearest = np.min([self.distances[e.name] for e in entries], axis=0)
        if budget is not None:
            return within(nearest, budget)
        return within(nearest, self.right.map(self.results.manifest.protocol.own_budgets[entries[0].norm]))

    def places(self) -> list[tuple[str, float | None]]:
        """Every norm and budget of the run, at last those that each image has for itself."""
        protocol = self.results.manifest.protocol
        stated = [(norm, b) for norm, values in protocol.budgets.items() for b in values]
        shared = sorted({*stated, *((e.norm, b) for e in self.done for b in e.budgets)})
        return [*shared, *((norm, None) for norm in protocol.own_budgets)]

    def compared(self) -> bool:
        """Whether attacks with the model's gradients and others ran at an equal norm and budget."""
        blind = [*self.following("outputs"), *self.following("another model")]
        return any(
            _able(self.following("gradients"), norm, budget) and _able(blind, norm, budget)
            for norm, budget in self.places()
        )

    def contests(self) -> Iterator[Flag]:
        """Attacks that do not use the model's gradients against those that do, at equal norm and budget."""
        for name, guide in (("gradient-free-wins", "outputs"), ("transfer-wins", "another model")):
            tried = []
            for norm, budget in self.places():
                white = _able(self.following("gradients"), norm, budget)
                other = _able(self.following(guide), norm, budget)
                if white and other:
                    p, text = paired(
                        self.fooled(other, budget), self._list(other), self.fooled(white, budget), self._list(white)
                    )
                    tried.append((p, f"At {names.at(norm, budget)}, {text}."))
            lost = [(p, text) for p, text in tried if p <= masking.SIGNIFICANT / len(tried)]
            if lost:
                more = f" The same at {len(lost) - 1} more of {len(tried)} budgets." if len(lost) > 1 else ""
                yield flag(name, min(lost)[1] + more)

    def ensembles(self) -> Iterator[Flag]:
        """What only those stages of an ensemble found that use no gradients, tried after all that do."""
        for entry in (e for e in self.done if e.ensemble):
            guided = [i for i, stage in enumerate(entry.ensemble) if stage.follows == "gradients"]
            later = entry.ensemble[guided[-1] + 1 :] if guided else ()
            blind = [stage.value for stage in later if stage.follows == "outputs"]
            rows = self.results.rows("measurements", entry.name, ["image_id", "value"], ["stage"])
            found = rows.loc[rows["value"].isin(blind), "image_id"]
            what = f"fell to the last stage of {self.results.titles[entry.name]} after all others had failed"
            hit = np.zeros(len(self.results.images), dtype=np.bool_)
            hit[self.results.places_of(found)] = True
            yield from rare("square-finds-more", hit[self.results.correct], what)

    def stalls(self) -> Iterator[Flag]:
        for entry in self.following("gradients"):
            low, high = min(entry.budgets, default=0.0), max(entry.budgets, default=0.0)
            if entry.fixed_budget and high >= 2 * low > 0:
                text = plateau(self.fooled([entry], low), self.fooled([entry], high))
                if text:
                    budgets = f"from {show.budget(low)} to {show.budget(high)}"
                    yield flag("error-stalls", f"{self.results.titles[entry.name]}, {budgets}: {text}")

    def unbounded(self) -> Iterator[Flag]:
        """The images that survive every white-box attack that may turn them into anything."""
        size = float(np.prod(self.results.manifest.model.input_shape))
        enough = {norm: masking.UNBOUNDED * size ** (1 / norm.p) for norm in BALLS}
        free = [
            e
            for e in self.following("gradients")
            if not e.fixed_budget or max(e.budgets, default=0) >= enough.get(e.norm, np.inf)
        ]
        if free:
            standing = ~np.any([np.isfinite(self.distances[e.name]) for e in free], axis=0)
            yield from rare("unconstrained-attack-failure", standing, f"withstand {self._list(free)}, without a limit")

    def _list(self, entries: Sequence[AttackRecord]) -> str:
        return "; ".join(self.results.titles[e.name] for e in entries)


def _able(entries: Sequence[AttackRecord], norm: str, budget: float | None) -> Sequence[AttackRecord]:
    """Those that were asked about this norm and budget, or for the smallest distance in this norm."""
    own = [e for e in entries if e.norm == norm]
    return [e for e in own if not e.fixed_budget or (e.own_budgets if budget is None else budget in e.budgets)]
