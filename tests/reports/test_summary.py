"""What a summary says: each number by hand, its rounding, and what is never claimed."""

from __future__ import annotations

import dataclasses
import html
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.stats import beta, binom

from records import with_changes
from robusteval.analysis import show
from robusteval.analysis.headline import headline_of
from robusteval.analysis.intervals import median, proportion, share
from robusteval.analysis.show import Round
from robusteval.analysis.standing import Standing, standings, widths
from robusteval.analysis.summary import Distance
from robusteval.core.norms import Norm
from robusteval.reports import summarise
from robusteval.reports.sections.costs import cost_grid
from robusteval.reports.sections.verdict import verdict
from robusteval.results.records import Cost
from robusteval.results.run import Run
from run_fixture import N, build_run


def test_summary_by_hand(run: Run) -> None:
    summary = summarise(run)
    assert (summary.n, summary.clean.count) == (N, 7)
    # Border witnesses count as within; the misclassified image stands nowhere; DeepFool's L2 images bound Linf.
    assert [(r.norm, r.budget, r.share.count) for r in summary.robust] == [
        ("linf", 8 / 255, 6),
        ("linf", 0.1, 4),
        ("l2", 0.5, 4),
    ]
    # 0 0.1255 0.3 0.4 0.6 0.8 inf inf: PGD's image of image 0 is nearer than DeepFool's, and so is image 2's.
    l2 = {d.norm: d.median for d in summary.distances}["l2"]
    assert l2.value == pytest.approx(0.5, rel=1e-6)
    assert (l2.low, l2.high) == (0.0, math.inf)
    assert [(c.stage, c.kind, c.share.count) for c in summary.certified] == [
        ("l-bound-l2", "estimate", 3),
        ("smoothing-l2", "confidence", 5),
    ]
    assert summary.contradicted == (("L-bound (estimate), L2", 1),)
    assert summary.contradictions == 1
    assert [c.name for c in summary.unavailable] == ["transfer-linf"]
    pgd, deepfool = (next(c for c in summary.costs if c.name == n) for n in ("pgd-linf", "deepfool-l2"))
    assert [(s.budget, s.share.count, s.share.n) for s in pgd.successes] == [(8 / 255, 1, 7), (0.1, 3, 7)]
    assert pgd.median is None
    assert deepfool.median is not None
    assert deepfool.median.value == pytest.approx(0.525)
    assert not deepfool.batch_independent


def test_an_estimate_is_never_called_certified(run: Run) -> None:
    quantities = [line.quantity for line in headline_of(summarise(run))]
    assert "Estimated accuracy, L-bound" in quantities
    assert (
        "Certified accuracy of the model smoothed with noise 0.25, Randomized smoothing (confidence, alpha 0.001)"
        in quantities
    )
    assert not any("ertified" in q and "bound" in q for q in quantities)


def test_proportion_is_clopper_pearson() -> None:
    share = proportion([True] * 3 + [False] * 7)
    assert (share.low, share.high) == pytest.approx((beta.ppf(0.025, 3, 8), beta.ppf(0.975, 4, 7)))
    assert (proportion([False] * 5).low, proportion([True] * 5).high) == (0.0, 1.0)


@pytest.mark.parametrize("n", [6, 7, 10, 50, 101])
def test_median_interval_is_the_narrowest_that_covers(n: int) -> None:
    found = median(np.arange(1, n + 1))
    rank = int(found.low)
    assert found.high == n + 1 - rank
    assert 1 - 2 * binom.cdf(rank - 1, n, 0.5) >= 0.95
    assert 1 - 2 * binom.cdf(rank, n, 0.5) < 0.95


def test_median_with_failures() -> None:
    assert median([0.1, math.inf, math.inf]).value == math.inf
    assert median([0.1, 0.2, math.inf]).value == 0.2
    assert median([0.1, math.inf]).value == math.inf
    assert (median([1.0]).low, median([1.0]).high) == (0.0, math.inf)


def test_bounds_round_away_from_claiming_too_much() -> None:
    assert show.lower(0.25129, "l2") == "0.2512"
    assert show.upper(0.25121, "l2") == "0.2513"
    assert show.upper(0.1, "linf") == "0.10000"
    assert show.lower(0.1, "linf") == "0.10000"
    assert show.upper(math.inf, "l2") == "none found"
    assert show.percent(0.29, Round.DOWN) == show.percent(0.29, Round.UP) == "29.0 %"
    assert (show.percent(1 / 3, Round.DOWN), show.percent(1 / 3, Round.UP)) == ("33.3 %", "33.4 %")
    assert show.percents(0.12345, 0.12345) == "12.3 to 12.4 %"
    assert (show.budget(8 / 255), show.budget(0.1), show.budget(0.5)) == ("8/255", "0.1", "0.5")


def test_standings_and_widths_by_hand() -> None:
    bounds = pd.DataFrame(
        {
            "correct": [True, True, True, True, True, False],
            "upper_linf": [0.5, 0.1 * (1 + 1e-8), 0.3, math.inf, 0.15, 0.0],
            "proof_linf": [0.1, 0.05, 0.0, 0.2, 0.0999, 0.0],
            "upper_l0": [1.0, 2.0, 3.0, 4.0, math.inf, 0.0],
            "upper_l2": [1.0] * 6,
            "proof_l2": [0.0] * 6,
        }
    )
    found = standings(bounds, {Norm.LINF: [0.2, 0.1], Norm.L0: [2]})
    # A witness on the border of a budget breaks, a proof of exactly a budget holds.
    assert [(s.norm, s.budget, s.proven, s.open, s.broken, s.wrong) for s in found] == [
        ("linf", 0.1, 2, 2, 1, 1),
        ("linf", 0.2, 1, 2, 2, 1),
        ("l0", 2, 0, 3, 2, 1),
    ]
    # Where a witness refutes a proof, the witness counts.
    refuted = bounds.assign(proof_linf=0.2)
    assert [(s.proven, s.broken) for s in standings(refuted, {Norm.LINF: [0.15]})] == [(3, 2)]
    (width,) = widths(bounds, ["l0", "l2", "linf"])
    # An infinite proof without a witness leaves nothing open: 0 0.05 0.0501 0.3 0.4.
    closed = bounds.assign(proof_linf=[0.1, 0.05, 0.0, math.inf, 0.0999, 0.0])
    assert widths(closed, ["linf"])[0].median.value == pytest.approx(0.0501)
    # 0.05 0.0501 0.3 0.4 infinity, over the images that are right.
    assert (width.norm, width.median.n) == ("linf", 5)
    assert width.median.value == pytest.approx(0.3)


def test_the_verdict_says_what_is_known_at_each_budget(run: Run) -> None:
    summary = summarise(run)
    assert "87.5 % of 8 images" in verdict(summary)
    assert "The model smoothed with noise 0.25 is certified on at least 62.5 % at L2 0.5." in verdict(summary)
    proven = (Standing("linf", 0.1, 3, 2, 2, 1), Standing("linf", 0.2, 1, 4, 2, 1), Standing("linf", 0.3, 0, 0, 7, 1))
    proofs = dataclasses.replace(summary, proved=frozenset({Norm.LINF}), standings=proven)
    said = verdict(proofs)
    assert (
        "At Linf 0.1, between 37.5 and 62.5 % of the images stay right: 37.5 % proven, 25.0 % broken, 25.0 % open, "
        "12.5 % wrong from the start. "
    ) in said
    assert "At Linf 0.2, between 12.5 and 62.5 % of the images stay right: 12.5 % proven" in said
    assert "At Linf 0.3, none of the images stays right: 87.5 % broken, 12.5 % wrong from the start." in said
    third = tuple(dataclasses.replace(c, share=share(1, 3)) for c in summary.certified)
    assert "is certified on at least 33.3 % at" in verdict(dataclasses.replace(summary, certified=third))
    assert verdict(summary).startswith("Do not rely on these numbers: unconstrained attack failure (indicator 6). ")
    unflagged = dataclasses.replace(summary, flags=())
    looked = dataclasses.replace(unflagged, masking_checked=True)
    assert "No sign of gradient masking was seen." in verdict(looked)
    # Attacks on no image show no sign of anything.
    assert "masking" not in verdict(dataclasses.replace(summary, clean=share(0, N)))
    # Without budgets: how far half of the images are.
    free = dataclasses.replace(summary, standings=(), distances=(Distance("l2", median([0.2, 0.3, 0.4])),))
    assert "Half of the images are broken within 0.3000 in L2." in verdict(free)


def test_the_share_of_time_outside_the_model(tmp_path: Path) -> None:
    run = with_changes(build_run(tmp_path), "pgd-linf", cost=Cost(seconds=2.0, model_seconds=1.5))
    run = with_changes(run, "deepfool-l2", cost=Cost())
    rows = {row[0]: row[-1] for row in cost_grid(summarise(run).costs).rows}
    assert (rows["PGD, Linf"], rows["DeepFool, L2"]) == ("25.0 %", "-")


def test_estimates_above_a_witness_are_headlines_before_and_after_calibration(run: Run, page: str) -> None:
    lines = {line.quantity: line for line in headline_of(summarise(run))}
    before, after = lines["L-bound above a known adversarial example"], lines["The same, calibrated at 25.0 %"]
    assert (before.at, before.shown, before.n) == ("L2", "33.4 %", 3)
    assert (after.shown, after.n) == ("0.0 %", 3)
    # Of several, the one that is most often wrong.
    summary = summarise(run)
    (own,) = summary.calibrated
    better = dataclasses.replace(own, title="CLEVER (estimate), L2", before=proportion([False] * 3))
    lines = {x.quantity: x for x in headline_of(dataclasses.replace(summary, calibrated=(better, own, better)))}
    assert lines["L-bound most often above a known adversarial example"].shown == "33.4 %"
    assert "split-conformal" in html.unescape(page)
    assert "0.7961" in page
