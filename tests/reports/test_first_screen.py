"""What the first screen of a report says: a sentence a budget, adversarial examples, what was not checked."""

from __future__ import annotations

import dataclasses

import pytest
from scipy.stats import beta

from robusteval.analysis.closest import examples
from robusteval.analysis.results import Results
from robusteval.analysis.standing import Standing
from robusteval.core.norms import Norm
from robusteval.reports import summarise
from robusteval.reports.sections.budgets import at_budgets
from robusteval.reports.sections.not_checked import not_checked
from robusteval.results.run import Run
from run_fixture import CLASSES


@pytest.mark.parametrize(
    ("standing", "attacked", "proved", "said"),
    [
        # Thirds: what is at least so much rounds down, what is at most so much up.
        (
            Standing("l2", 1, 1, 1, 1, 0),
            "l2",
            "l2",
            "between 33.3 and 66.7 %: 33.3 % proven, 33.3 % broken, 33.4 % open",
        ),
        (Standing("l2", 1, 0, 2, 1, 0), "l2", "l2", "at most 66.7 %: none proven, 33.3 % broken, 66.7 % open"),
        (
            Standing("l2", 1, 0, 2, 1, 0),
            "l2",
            "",
            "at most 66.7 %: 33.3 % broken, 66.7 % open; no proof was tried in L2",
        ),
        (
            Standing("l2", 1, 2, 1, 0, 0),
            "",
            "l2",
            "at least 66.6 %: 66.6 % proven, 33.4 % open; no attack searched in L2",
        ),
        (Standing("l2", 1, 2, 0, 1, 0), "l2", "l2", "66.6 %: 66.6 % proven, 33.3 % broken"),
    ],
)
def test_a_sentence_of_a_budget_claims_what_is_known(
    run: Run, standing: Standing, attacked: str, proved: str, said: str
) -> None:
    tried = [frozenset(Norm(norm) for norm in norms.split()) for norms in (attacked, proved)]
    summary = dataclasses.replace(summarise(run), n=3, standings=(standing,), attacked=tried[0], proved=tried[1])
    known, counted = said.split(": ", 1)
    (line,) = at_budgets(summary)
    assert line.says == f"At L2 1, {known} of the images stay right: {counted}."
    assert sum(part.width for part in line.parts) == pytest.approx(100)


def test_the_interval_of_a_budget_covers_both_ends(run: Run) -> None:
    """Clopper-Pearson: the lower end of what is proven, the upper end of what is not broken."""
    summary = dataclasses.replace(summarise(run), n=100, standings=(Standing("l2", 1, 80, 8, 12, 0),))
    low, high = float(beta.ppf(0.025, 80, 21)), float(beta.ppf(0.975, 89, 12))
    (line,) = at_budgets(summary)
    assert (
        line.interval
        == f"Of all images like these {100 * low - 0.05:.1f} to {100 * high + 0.05:.1f} % (95 % interval)."
    )


def test_what_was_tried_nowhere_is_unknown(run: Run) -> None:
    summary = dataclasses.replace(
        summarise(run), standings=(Standing("l1", 8, 0, 7, 0, 1),), attacked=frozenset(), proved=frozenset()
    )
    (line,) = at_budgets(summary)
    assert line.says == "At L1 8, nothing is known: neither an attack nor a proof was tried in L1."


def test_what_was_not_checked_is_listed(run: Run) -> None:
    results = Results(run)
    summary = dataclasses.replace(summarise(run), flags=(), failed=(("FAB, L1", "ValueError: x"),))
    text = "\n".join(not_checked(results, summary))
    assert "No proof was tried in Linf and L2:" in text
    assert "No attack searched in L1:" in text
    assert "Stopped by an error: FAB, L1." in text
    assert "Could not run: Transfer, Linf. No source" in text
    assert "Gradient masking was not checked" in text
    checked = dataclasses.replace(summary, masking_checked=True, proved=frozenset(Norm), attacked=frozenset(Norm))
    said = "".join(not_checked(results, checked))
    assert not [words for words in ("masking", "No proof", "No attack") if words in said]
    unattacked = dataclasses.replace(summary, attacked=frozenset())
    assert not_checked(results, unattacked)[0].startswith("No attack was run:")


def test_examples_are_the_closest_the_median_and_the_farthest(run: Run) -> None:
    """PGD breaks images 0 and 2 at 8/255 and 0.1, DeepFool images 1, 3 and 4 at 0.09, 0.2 and 0.3."""
    found = examples(Results(run), Norm.LINF)
    assert [(e.image_id, e.label, e.seen_as, e.place) for e in found] == [
        ("image-0", CLASSES[0], CLASSES[0], "closest"),
        ("image-2", CLASSES[2], CLASSES[0], "median"),
        ("image-4", CLASSES[1], CLASSES[0], "farthest"),
    ]
    assert [e.distance for e in found] == sorted(e.distance for e in found)
