"""What a run did not check: budgets without a proof, norms without an attack, methods that did not run."""

from __future__ import annotations

from collections.abc import Iterable

from robusteval.analysis import show
from robusteval.analysis.results import Results
from robusteval.analysis.summary import Summary
from robusteval.core.norms import BALLS, Norm

OTHERWISE = (
    "Anything but changes of pixel values within these distances, on images like these: rotations, crops, blur, "
    "patches, compression, other data."
)
MASKING = "Gradient masking was not checked: add the metric gradient-masking, or an attack without gradients."


def not_checked(results: Results, summary: Summary) -> list[str]:
    """In sentences, the most telling first."""
    found = []
    budgets = [*results.manifest.protocol.budgets, *results.manifest.protocol.own_budgets]
    if not summary.attacked:
        found.append("No attack was run: nothing here says where the model breaks.")
    else:
        if unproven := [n for n in budgets if n not in summary.proved and n in summary.attacked]:
            found.append(f"No proof was tried in {_symbols(unproven)}: what is open there may fall to another attack.")
        if unsearched := [n for n in (*budgets, *BALLS) if n not in summary.attacked]:
            found.append(
                f"No attack searched in {_symbols(unsearched)}: distances there are those of adversarial examples "
                "found in other norms, and far from the smallest."
            )
    if summary.failed:
        found.append(f"Stopped by an error: {show.first_of([title for title, _ in summary.failed])}.")
    for reason in dict.fromkeys(c.reason for c in summary.unavailable):
        titles = [c.title for c in summary.unavailable if c.reason == reason]
        found.append(f"Could not run: {show.first_of(titles)}. {reason[:1].upper()}{reason[1:]}.")
    if summary.robust and summary.clean.count and not summary.masking_checked and not summary.flags:
        found.append(MASKING)
    return [*found, OTHERWISE]


def _symbols(norms: Iterable[Norm]) -> str:
    symbols = list(dict.fromkeys(n.symbol for n in norms))
    return " and ".join(symbols) if len(symbols) < 3 else f"{', '.join(symbols[:-1])} and {symbols[-1]}"
