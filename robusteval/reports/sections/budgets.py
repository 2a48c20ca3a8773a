"""One sentence and one bar a budget: how many images stay right there, as far as is known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from robusteval.analysis import names, show
from robusteval.analysis.intervals import share
from robusteval.analysis.show import Round
from robusteval.analysis.standing import Standing
from robusteval.analysis.summary import Summary
from robusteval.core.norms import Norm
from robusteval.reports.figures.standing import PARTS, ROOM, shown_share

WORDS = {"proven": "proven", "broken": "broken", "open": "open", "wrong": "wrong from the start"}
"""The parts of a sentence, in its order."""


@dataclass(frozen=True)
class BarPart:
    """Of a bar: which part, its width in percent, and the number in it, empty where it has no room."""

    key: str
    width: float
    shown: str


@dataclass(frozen=True)
class AtBudget:
    """What is known of the images at a budget, in a sentence and as a bar."""

    says: str
    interval: str
    """What the sentence means for other images of this kind."""
    parts: Sequence[BarPart]


def at_budgets(summary: Summary) -> list[AtBudget]:
    """One for each budget of the protocol, in its order."""
    return [_at_budget(s, summary) for s in summary.standings]


def _at_budget(s: Standing, summary: Summary) -> AtBudget:
    n = summary.n
    low, high = share(s.proven, n).low, share(s.proven + s.open, n).high
    parts = [BarPart(key, 100 * count / n, _number(key, count / n)) for key in PARTS if (count := getattr(s, key))]
    interval = f"Of all images like these {show.percents(low, high)} (95 % interval)."
    return AtBudget(sentence(s, n, summary), interval, parts)


def _number(key: str, width: float) -> str:
    return shown_share(key, width) if width >= 1.5 * ROOM else ""


def sentence(s: Standing, n: int, summary: Summary) -> str:
    """At Linf 8/255, between 80.0 and 88.0 % of the images stay right: 80.0 % proven, 12.0 % broken, 8.0 % open."""
    norm, at = Norm(s.norm), names.at(s.norm, s.budget)
    low = show.percent(s.proven / n, Round.DOWN)
    high = show.percent((s.proven + s.open) / n, Round.UP)
    attacked, proved = norm in summary.attacked, norm in summary.proved
    if not attacked and not proved and not s.broken:
        return f"At {at}, nothing is known: neither an attack nor a proof was tried in {norm.symbol}."
    if not s.open:
        known = low if s.proven else "none"
    elif not s.proven:
        known = f"at most {high}"
    elif not attacked and not s.broken:
        known = f"at least {low}"
    else:
        known = f"between {low.removesuffix(' %')} and {high}"
    counted = [f"{shown_share(key, getattr(s, key) / n)} {word}" for key, word in WORDS.items() if getattr(s, key)]
    none = ["none proven"] * (proved and not s.proven and s.open > 0)
    missing = [f"no attack searched in {norm.symbol}"] * (not attacked)
    missing += [f"no proof was tried in {norm.symbol}"] * (not proved and s.open > 0)
    stay = "stays" if known == "none" else "stay"
    counts = ", ".join([*none, *counted])
    return f"At {at}, {known} of the images {stay} right: {'; '.join([counts, *missing])}."
