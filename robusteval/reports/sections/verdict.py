"""What a report says first, in sentences: the verdict, what qualifies it, and how to read the numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence

from robusteval.analysis import names, show
from robusteval.analysis.show import Round
from robusteval.analysis.standing import Exact
from robusteval.analysis.summary import Distance, Summary
from robusteval.core.norms import Norm
from robusteval.reports.sections.budgets import at_budgets
from robusteval.results.exact import WITHIN


def verdict(summary: Summary) -> str:
    """The run in a few sentences: accuracy, what is known at each budget, smoothed models, signs of masking."""
    return " ".join([opening(summary), *(line.says for line in at_budgets(summary)), closing(summary)]).strip()


def opening(summary: Summary) -> str:
    """Whether to rely on the numbers, and the accuracy; where no budgets are given, how far half of the images are."""
    n, data, clean = show.images(summary.n), summary.data, show.percent(summary.clean.value)
    said = [f"Do not rely on these numbers: {_and([_small(t) for t in summary.doubts])}."] if summary.doubts else []
    said += [f"{summary.model} classifies {clean} of {n} of {data} correctly."]
    if not summary.standings:
        near = [
            f"{show.upper(d.median.value, d.norm)} in {Norm(d.norm).symbol}" for d in summary.distances if _known(d)
        ]
        said += [f"Half of the images are broken within {_and(near)}."] * bool(near)
    return " ".join(said)


def closing(summary: Summary) -> str:
    """How many distances are exact, what is certified of smoothed models, what was seen of gradient masking, and
    outputs that are not finite."""
    said = list(filter(None, [exact_sentence(summary.exacts)]))
    if smoothed := [c for c in summary.certified if c.kind == "confidence" and c.share.count]:
        best = max(smoothed, key=lambda c: (c.share.count, c.budget))
        share = show.percent(best.share.value, Round.DOWN)
        said.append(
            f"{_capital(names.subject(best.subject))} is certified on at least {share} at "
            f"{names.at(best.norm, best.budget)}."
        )
    if unanswered := next((f for f in summary.flags if f.name == "non-finite-outputs"), None):
        said.append(f"{unanswered.evidence.split('. ')[0].rstrip('.')}.")
    if summary.flags and not summary.doubts:
        signs = "sign" if len(summary.flags) == 1 else "signs"
        said.append(f"{len(summary.flags)} weak {signs} of gradient masking, below.")
    elif not summary.flags and summary.robust and summary.clean.count and summary.masking_checked:
        said.append("No sign of gradient masking was seen.")
    return " ".join(said)


def exact_sentence(exacts: Sequence[Exact]) -> str:
    """On how many images a proof and a witness meet, norm by norm; empty where on none."""
    where = [f"{e.share.count:,} in {Norm(e.norm).symbol}" for e in exacts if e.share.count]
    if not where:
        return ""
    right = show.images(exacts[0].share.n)
    return f"Of {right} classified correctly the distance is exact, to {WITHIN}, of {_and(where)}."


def _known(found: Distance) -> bool:
    return math.isfinite(found.median.value)


def _and(parts: Sequence[str]) -> str:
    return " and ".join(parts) if len(parts) < 3 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def _in_norm(title: str) -> str:
    """L-bound (estimate), L1 -> L-bound (estimate) in L1."""
    bare, _, symbol = title.rpartition(", ")
    return f"{bare} in {symbol}" if bare and symbol in {n.symbol for n in Norm} else title


def _small(text: str) -> str:
    return text[:1].lower() + text[1:]


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def notes(summary: Summary) -> list[str]:
    """What qualifies the numbers: stages that are missing, and contradictions."""
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
        where = [f"{_in_norm(title)} on {show.images(count)}" for title, count in summary.contradicted]
        found.append(
            f"Contradictions: on {show.images(summary.contradictions)} a lower bound is larger than the distance of a "
            f"known adversarial example, so it is wrong there: {_and(where)}."
        )
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
    if any(e.share.count for e in summary.exacts):
        said.append(
            f"A distance named exact is known to {WITHIN}: a proof and an adversarial example enclose it, and no other "
            "attack or proof can change it by more."
        )
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
