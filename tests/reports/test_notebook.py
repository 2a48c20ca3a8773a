"""Runs, results and leaderboards as axes: what is drawn is what was measured, and what the caller gave is drawn on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.figure import Figure

import robusteval as rv
from robusteval.attacks.result import AttackCost, AttackResult
from robusteval.certify.base import CertificateResult
from robusteval.core.errors import UserError
from robusteval.core.methods import Guarantee
from robusteval.core.norms import Norm
from robusteval.metrics.base import MetricResult
from robusteval.results.run import Run
from run_fixture import Fake, FakeCertificate, build_paper_run

FAR = [0.0, 0.05, 0.2, np.inf]


@pytest.fixture(autouse=True)
def headless() -> Iterator[None]:
    mpl.use("agg")
    yield
    pyplot.close("all")


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return build_paper_run(
        tmp_path,
        "mine",
        [d > 0 for d in FAR],
        [Fake("pgd-linf", "pgd", "linf", {"linf": FAR})],
        name="cost $5$",
        budgets={"linf": [0.1]},
        certificates=[FakeCertificate("crown-linf", [0.0, 0.02, 0.1, 0.15], norm="linf")],
    )


def steps(axes: Axes, label: str) -> list[tuple[float, float]]:
    """Corners of a line."""
    line = next(line for line in axes.lines if line.get_label() == label)
    return [(round(float(x), 6), round(float(y), 6)) for x, y in np.asarray(line.get_xydata())]


def test_a_run_is_drawn_between_what_was_found_and_what_was_proven(run: Run) -> None:
    axes = run.plot()
    found, proven = steps(axes, "under attack, at most"), steps(axes, "proven, at least")
    end = round(axes.get_xlim()[1], 6)
    assert end > 0.15
    assert [point for point in found if point[0] < end] == [(0.0, 0.75), (0.05, 0.5)]
    assert found[-1][1] in (0.25, 0.5)
    assert [point for point in proven if point[0] < end] == [(0.0, 0.75), (0.02, 0.75), (0.1, 0.5), (0.15, 0.25)]
    assert proven[-1] == (end, 0.0)
    assert axes.get_title(loc="left") == "cost $5$"
    assert not axes.title.get_parse_math()


def test_nothing_global_is_changed_and_the_callers_axes_are_used(run: Run) -> None:
    before = dict(mpl.rcParams)
    given = Figure().subplots()
    assert run.plot("linf", ax=given) is given
    assert rv.Results(run).plot(ax=given) is given
    assert pyplot.get_fignums() == [], "no figure beside the caller's"
    run.plot()
    assert len(pyplot.get_fignums()) == 1, "a notebook shows the figures of pyplot"
    assert dict(mpl.rcParams) == before


def test_a_norm_without_anything_is_refused(run: Run) -> None:
    with pytest.raises(UserError, match="expected a norm in which something was attacked or proven, got l0"):
        run.plot("l0")
    with pytest.raises(UserError, match=r"expected a norm of .*l2.*, got 'l7'"):
        run.plot("l7")


def test_an_attack_and_a_certificate_are_drawn() -> None:
    far, none = torch.tensor(FAR, dtype=torch.float64), torch.zeros(4)
    blank = {"predicted": none.long(), "measurements": {}}
    made = {"examples": torch.zeros(4, 1, 2, 2), "success": far.isfinite(), "cost": AttackCost(none, none)}
    attack = AttackResult(attack="PGD", norm=Norm.LINF, distances={"linf": far}, **made, **blank)  # type: ignore[arg-type]
    assert steps(attack.plot(), "PGD")[:2] == [(0.0, 0.75), (0.05, 0.5)]
    said = {"guarantee": Guarantee.PROOF, "subject": "f", "alpha": None, "statistics": ()}
    radius, abstained = torch.tensor([0.0, 0.1, 0.2, 0.3]), torch.tensor([True, False, False, False])
    bound = CertificateResult(certificate="B", norm=Norm.L2, radius=radius, abstained=abstained, **said, **blank)  # type: ignore[arg-type]
    assert steps(bound.plot(), "B")[:3] == [(0.0, 0.75), (0.1, 0.75), (0.2, 0.5)]


def test_a_metric_is_drawn_by_quantity() -> None:
    kept = {("kept", 0.1): torch.tensor([1.0, 0.0, torch.nan]), ("kept", 0.3): torch.tensor([0.0, 0.0, 0.5])}
    result = MetricResult("Noise", kept, {("whole", 0.0): 2.0}, {})
    assert np.asarray(result.plot().lines[0].get_xydata()).tolist() == [[0.1, 0.5], [0.3, pytest.approx(1 / 6)]]
    assert np.asarray(result.plot("whole").lines[0].get_xydata()).tolist() == [[0.0, 2.0]]
    with pytest.raises(UserError, match="expected a quantity of kept, whole, got 'lost'"):
        result.plot("lost")


def test_a_board_is_drawn_model_by_model(run: Run) -> None:
    board = rv.leaderboard([run])
    axes = board.plot()
    assert [label.get_text() for label in axes.get_yticklabels()] == ["cost $5$"]
    drawn = {line.get_label(): line for line in axes.containers}
    assert set(drawn) == {"Clean accuracy", "Robust accuracy, Linf 0.1"}
    assert float(drawn["Robust accuracy, Linf 0.1"].lines[0].get_xdata()[0]) == 0.5  # type: ignore[attr-defined]
    curves = rv.plot_board_curves(board, "linf")
    assert steps(curves, "cost $5$")[:2] == [(0.0, 0.75), (0.05, 0.5)]
    with pytest.raises(UserError, match="expected a norm in which the models were attacked, got l0"):
        rv.plot_board_curves(board, "l0")


def test_curves_are_compared_on_the_same_axes(run: Run) -> None:
    axes = rv.plot_curve(rv.accuracy_curve(run, "linf"), label="attacked")
    assert rv.plot_curve(rv.certified_curve(run, "crown-linf"), axes, "certified", line=1) is axes
    assert steps(axes, "attacked") == [(0.0, 0.75), (0.05, 0.5), (0.2, 0.25)]
    assert steps(axes, "certified")[-1] == (0.15, 0.25)
    with pytest.raises(UserError, match="columns"):
        rv.plot_curve(pd.DataFrame({"x": [1.0]}))
