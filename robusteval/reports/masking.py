"""Does this run deserve belief? Flags of gradient masking, each with its evidence, from the tables of a run alone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from statsmodels.stats.contingency_tables import mcnemar

from robusteval import masking
from robusteval.audit.run import Run
from robusteval.reports import names, show
from robusteval.reports.curves import closest
from robusteval.reports.intervals import Proportion, median, proportion
from robusteval.tables import BUDGET_TOLERANCE

Hits = NDArray[np.bool_]
Entry = dict[str, Any]
SQUARE_STAGE = 4
"""What `auto` measures as `stage` where only its last one, Square, fooled the image."""


@dataclass(frozen=True)
class Flag:
    """A reason to doubt the attacks of a run. `evidence` are sentences with counts and 95 % intervals."""

    name: str
    title: str
    evidence: str
    threshold: str
    mitigation: str
    severity: Literal["serious", "warning"]


def flags(run: Run) -> list[Flag]:
    """All flags that a finished run raises, the serious ones first.

    Without the metric `gradient-masking` only those that follow from the witnesses. Misclassified images, which no
    attack touches, count in none of them.
    """
    images = run.table("images")
    right = images.loc[images["correct"], "image_id"]
    if right.empty:
        return []
    attacked = _Attacked(run, right)
    raised = [*attacked.contests(), *attacked.square(), *attacked.stalls(), *attacked.unbounded()]
    measurements = run.table("measurements")
    for entry in run.stages("metric"):
        if entry["method"] == masking.METRIC and entry["status"] == "done":
            rows = measurements[(measurements["method"] == entry["name"]) & measurements["image_id"].isin(right)]
            raised += [*_Probe(entry["norm"], rows).flags()]
    known = list(masking.SIGNS)
    return sorted(raised, key=lambda flag: (flag.severity != "serious", known.index(flag.name)))


def flag(name: str, evidence: str) -> Flag:
    sign = masking.SIGNS[name]
    return Flag(name, sign.title, evidence, sign.threshold, sign.mitigation, sign.severity)


class _Attacked:
    """What the attacks of a run did to the images that are right."""

    def __init__(self, run: Run, right: pd.Series[str]) -> None:
        self.run, self.right = run, right
        self.titles = names.stages(run)
        self.witnesses = run.table("witnesses")
        self.done = [e for e in run.stages("attack") if e["status"] == "done"]
        self.distances = {
            e["name"]: closest(self.witnesses, e["name"], e["norm"], right).to_numpy(np.float64) for e in self.done
        }

    def following(self, guide: str) -> list[Entry]:
        """The attacks that a model's gradients, its outputs, or another model show the way (attacks/base.py)."""
        return [e for e in self.done if e["follows"] == guide]

    def fooled(self, entries: list[Entry], budget: float) -> Hits:
        """Which images one of these attacks, all of one norm, fools within the budget."""
        nearest = np.min([self.distances[e["name"]] for e in entries], axis=0)
        return np.asarray(nearest <= budget * (1 + BUDGET_TOLERANCE))

    def places(self) -> list[tuple[str, float]]:
        """Every norm and budget of the run."""
        stated = [(norm, b) for norm, values in self.run.manifest["protocol"]["budgets"].items() for b in values]
        return sorted({*stated, *((e["norm"], b) for e in self.done for b in e["budgets"])})

    def contests(self) -> Iterator[Flag]:
        """Attacks that do not use the model's gradients against those that do, at equal norm and budget."""
        for name, guide in (("gradient-free-wins", "outputs"), ("transfer-wins", "another model")):
            tried = []
            for norm, budget in self.places():
                white = _able(self.following("gradients"), norm, budget)
                other = _able(self.following(guide), norm, budget)
                if white and other:
                    p, text = _paired(
                        self.fooled(other, budget), self._list(other), self.fooled(white, budget), self._list(white)
                    )
                    tried.append((p, f"At {names.at(norm, budget)}, {text}."))
            lost = [(p, text) for p, text in tried if p <= masking.SIGNIFICANT / len(tried)]
            if lost:
                more = f" The same at {len(lost) - 1} more of {len(tried)} budgets." if len(lost) > 1 else ""
                yield flag(name, min(lost)[1] + more)

    def square(self) -> Iterator[Flag]:
        """What only the last stage of `auto` found."""
        rows = self.run.table("measurements")
        for entry in (e for e in self.done if e["method"] == "auto"):
            stages = rows[(rows["method"] == entry["name"]) & (rows["quantity"] == "stage")]
            last = stages.loc[stages["value"] == SQUARE_STAGE, "image_id"]
            what = f"fell to the last stage of {self.titles[entry['name']]} after all others had failed"
            yield from _rare("square-finds-more", self.right.isin(last).to_numpy(), what)

    def stalls(self) -> Iterator[Flag]:
        for entry in self.following("gradients"):
            low, high = min(entry["budgets"], default=0.0), max(entry["budgets"], default=0.0)
            if entry["fixed_budget"] and high >= 2 * low > 0:
                text = _plateau(self.fooled([entry], low), self.fooled([entry], high))
                if text:
                    budgets = f"from {show.budget(low)} to {show.budget(high)}"
                    yield flag("error-stalls", f"{self.titles[entry['name']]}, {budgets}: {text}")

    def unbounded(self) -> Iterator[Flag]:
        """The images that survive every white-box attack that may turn them into anything."""
        size = float(np.prod(self.run.manifest["model"]["input_shape"]))
        enough = {n: masking.UNBOUNDED * size**power for n, power in (("l1", 1), ("l2", 0.5), ("linf", 0))}
        free = [
            e
            for e in self.following("gradients")
            if not e["fixed_budget"] or max(e["budgets"], default=0) >= enough.get(e["norm"], np.inf)
        ]
        if free:
            standing = ~np.any([np.isfinite(self.distances[e["name"]]) for e in free], axis=0)
            yield from _rare("unconstrained-attack-failure", standing, f"withstand {self._list(free)}, without a limit")

    def _list(self, entries: list[Entry]) -> str:
        return "; ".join(self.titles[e["name"]] for e in entries)


def _able(entries: list[Entry], norm: str, budget: float) -> list[Entry]:
    """Those that were asked about this norm and budget, or for the smallest distance in this norm."""
    return [e for e in entries if e["norm"] == norm and (not e["fixed_budget"] or budget in e["budgets"])]


class _Probe:
    """The measurements of one run of the metric, on the images that are right."""

    def __init__(self, norm: str, rows: pd.DataFrame) -> None:
        self.norm = names.NORMS[norm]
        self.table = rows.pivot(index="image_id", columns=["quantity", "at"], values="value").sort_index(axis=1)

    def values(self, quantity: str, i: int = 0) -> NDArray[np.float64]:
        """Of the images, at the i-th place where the quantity was measured."""
        return self.block(quantity).iloc[:, i].to_numpy(np.float64)

    def block(self, quantity: str) -> pd.DataFrame:
        return self.table.loc[:, [quantity]]

    def flags(self) -> Iterator[Flag]:
        if len(self.table):
            yield from self.outputs()
            yield from self.gradients()
            if "fooled" in self.table:
                self.table = self.table[self.block("fooled").notna().all(axis=1)]
                if len(self.table):
                    yield from self.attacks()

    def outputs(self) -> Iterator[Flag]:
        n = len(self.table)
        if (self.values("probabilities") == 1).all():
            yield flag("probability-outputs", f"On all {_images(n)}.")
        random = ~(self.values("output_spread") <= masking.RANDOM)
        yield from _rare("random-outputs", random, "have other outputs when they are evaluated again")
        middle = median(np.nan_to_num(self.values("loss_variation"), nan=1.0))
        if middle.low > masking.UNSTABLE:
            interval = show.percents(middle.low, min(middle.high, 1.0))
            text = f"The margin of the median image changes by {show.percent(middle.value)} ({interval})"
            yield flag("unstable-predictions", f"{text}, {_images(n)}.")

    def gradients(self) -> Iterator[Flag]:
        size, other = self.values("gradient_size"), self.values("gradient_size_margin")
        blocked = np.isnan(size)
        yield from _rare(
            "unavailable-gradients", blocked, "get no gradient from the model, which is not differentiable"
        )
        none = (size == 0) & (other == 0)
        yield from _rare("unavailable-gradients", none, "have a gradient that is zero everywhere, of either loss")
        lost = ~blocked & ~none & ~((size >= masking.VANISHING) & np.isfinite(size))
        yield from _rare("vanishing-gradients", lost, "have a vanishing or non-finite gradient of the cross-entropy")

    def attacks(self) -> Iterator[Flag]:
        low, budget, high, _ = map(float, self.block("fooled").columns.get_level_values("at"))
        at, path = f"{self.norm} {show.budget(budget)}", f"of an ascent at {self.norm} {show.budget(budget)}"
        half, once, twice, unbounded = (self.values("fooled", i) == 1 for i in range(4))
        further = (self.values("fooled_more_steps") == 1) | (self.values("fooled_restarts") == 1)
        free = self.values("fooled_without_gradients") == 1
        p, text = _paired(free, "the metric's search without gradients", once | further, "its ascents")
        if p <= masking.SIGNIFICANT:
            yield flag("gradient-free-wins", f"At {at}, {text}.")
        p, text = _paired(half, f"an ascent at {show.budget(low)}", twice, f"one at {show.budget(high)}")
        if p <= masking.SIGNIFICANT:
            yield flag("error-stalls", f"In {self.norm}, {text}.")
        elif stalled := _plateau(half, twice):
            yield flag("error-stalls", f"{self.norm}, from {show.budget(low)} to {show.budget(high)}: {stalled}")
        yield from _rare(
            "more-finds-more", further & ~once, f"fall at {at} to more steps or restarts only", masking.MUCH_MORE
        )
        for name, quantity, what in (
            ("silent-success", "silent_success", f"were fooled on the way {path}, and not at its end"),
            ("transfer-failure", "transfer_failure", f"are right again after the success {path}"),
        ):
            yield from _rare(name, self.values(quantity) == 1, what)
        late = (self.values("late_progress") > masking.UNSETTLED) & ~once
        yield from _rare("incomplete-optimisation", late, f"withstood, the loss still rising at the end {path}")
        yield from _rare("unconstrained-attack-failure", ~unbounded, f"withstand an ascent in {self.norm}, no limit")


def _rare(name: str, hits: Hits, what: str, share: float = masking.RARE) -> Iterator[Flag]:
    """A flag if more than `share` of the images show it, with 95 % confidence."""
    found = proportion(hits)
    if found.low > share:
        yield flag(name, f"{_count(found)} {what}.")


def _paired(one: Hits, first: str, other: Hits, second: str) -> tuple[float, str]:
    """The p-value of one fooling more images than the other, 1 where it does not, and the counts in words."""
    more, fewer = int((one & ~other).sum()), int((other & ~one).sum())
    p = float(mcnemar([[0, more], [fewer, 0]], exact=True).pvalue) if more > fewer else 1.0
    counts = f"{_count(proportion(one & ~other))} fall to {first} only and {fewer:,} to {second} only"
    return p, f"{counts} (McNemar p = {p:.1g})"


def _plateau(small: Hits, large: Hits) -> str:
    """The evidence that an error does not grow from one budget to a larger one; empty if it may."""
    if small.all():
        return ""
    first, then = proportion(small), proportion(large[~small])
    if not (first.low > masking.PLATEAU and then.high < masking.PLATEAU):
        return ""
    return f"{_count(first)} fall at the smaller budget, and of the others {_count(then)} at the larger."


def _count(p: Proportion) -> str:
    return f"{p.count:,} of {_images(p.n)} ({show.percents(p.low, p.high)})"


def _images(n: int) -> str:
    return f"{n:,} image" if n == 1 else f"{n:,} images"
