"""What a report says first, in sentences: the verdict, what qualifies it, and how to read the numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence

from robusteval.analysis import names, show
from robusteval.analysis.show import Round
from robusteval.analysis.standing import Standing
from robusteval.analysis.summary import Certified, Robust, Summary
from robusteval.core.norms import Norm


def verdict(summary: Summary) -> str:
    """The run in a few sentences: accuracy, under attack, proven, how wide the brackets are, signs of masking."""
    n, data, clean = show.images(summary.n), summary.data, show.percent(summary.clean.value)
    said = [f"Do not rely on these numbers: {_and([_small(t) for t in summary.doubts])}."] if summary.doubts else []
    said += [f"{summary.model} classifies {clean} of {n} of {data} correctly."]
    if attacked := {r.norm: r for r in summary.robust}.values():
        shares = [f"at most {show.percent(r.share.value, Round.UP)} under {_at(r)}" for r in attacked]
        said.append(f"Under attack that falls to {_and(shares)}.")
    if "proof" in summary.guarantees and summary.standings:
        proven = {s.norm: s for s in summary.standings if s.proven}.values()
        shares = [f"at least {show.percent(s.proven / summary.n, Round.DOWN)} at {_at(s)}" for s in proven]
        said.append(f"Proven to stay right are {_and(shares)}." if shares else "Nothing is proven at these budgets.")
    if smoothed := [c for c in summary.certified if c.kind == "confidence" and c.share.count]:
        best = max(smoothed, key=lambda c: (c.share.count, c.budget))
        share = show.percent(best.share.value, Round.DOWN)
        said.append(f"{_capital(names.subject(best.subject))} is certified on at least {share} at {_at(best)}.")
    if widths := [w for w in summary.widths if math.isfinite(w.median.value)]:
        gaps = [f"{show.upper(w.median.value, w.norm)} in {Norm(w.norm).symbol}" for w in widths]
        said.append(f"The median gap between proof and closest witness is {_and(gaps)}.")
    if unanswered := next((f for f in summary.flags if f.name == "non-finite-outputs"), None):
        said.append(f"{unanswered.evidence.split('. ')[0].rstrip('.')}.")
    if summary.flags and not summary.doubts:
        signs = "sign" if len(summary.flags) == 1 else "signs"
        said.append(f"{len(summary.flags)} weak {signs} of gradient masking, below.")
    elif not summary.flags and attacked and summary.clean.count:
        said.append("No sign of gradient masking was seen." if summary.masking_checked else UNCHECKED)
    return " ".join(said)


UNCHECKED = "Gradient masking was not checked: add the metric gradient-masking, or an attack without gradients."


def _at(found: Robust | Certified | Standing) -> str:
    return names.at(found.norm, found.budget)


def _and(parts: Sequence[str]) -> str:
    return " and ".join(parts) if len(parts) < 3 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def _small(text: str) -> str:
    return text[:1].lower() + text[1:]


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def notes(summary: Summary) -> list[str]:
    """What qualifies the numbers: stages that are missing or could not run, and contradictions."""
    found = []
    if summary.failed:
        what = "method" if len(summary.failed) == 1 else "methods"
        found.append(
            f"This run is incomplete: an error stopped {len(summary.failed):,} {what}. Once that is mended, the same "
            "command tries them again."
        )
    elif not summary.complete:
        found.append("This run is not finished: stages are missing.")
    if summary.contradictions:
        where = "; ".join(f"{title} on {count:,}" for title, count in summary.contradicted)
        found.append(
            f"Contradictions: on {show.images(summary.contradictions)} a lower bound lies above a witness, so it is "
            f"wrong there: {where}."
        )
    reasons = dict.fromkeys(c.reason for c in summary.unavailable)
    for reason in reasons:
        titles = [c.title for c in summary.unavailable if c.reason == reason]
        found.append(f"Could not run: {show.first_of(titles)}. {_capital(reason)}.")
    return found


def reading(summary: Summary) -> list[str]:
    """How to read these numbers: what they promise and what they do not."""
    said = []
    if summary.robust:
        said.append(
            "Robust accuracy and median distance are upper bounds: each image that the attacks fooled has a kept "
            "witness that shows it, while an image that they did not fool may still fall to another attack."
        )
    if "proof" in summary.guarantees:
        said.append("Bounds named proof hold for every perturbation within their radius.")
    if "confidence" in summary.guarantees:
        said.append(
            "Bounds named confidence speak of the smoothed model, not of the model itself, and each may be wrong "
            "with the probability alpha."
        )
    if "estimate" in summary.guarantees:
        said.append(
            "Bounds named estimate rest on an extreme value fitted to samples: they guide, and guarantee nothing."
        )
    if summary.calibrated:
        said.append(
            "A calibrated estimate was scaled down on some of the images so that on another image like them it exceeds "
            "the closest witness of these attacks with at most the stated probability; its lines count the images that "
            "had no part in that."
        )
    if "proof" not in summary.guarantees:
        said.append("No lower bound in this run is a proof for the model itself.")
    dependent = [c.title for c in summary.costs if c.available and not c.batch_independent]
    if dependent:
        said.append(
            f"Results of {'; '.join(dependent)} may depend on how the images were cut into batches; their seed is "
            "fixed per batch."
        )
    said.append("Distances are in pixel units, with pixels in [0, 1]. Lower bounds are rounded down, upper bounds up.")
    return said
