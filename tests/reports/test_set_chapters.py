"""Metrics of the whole set in an audit: kept, verified, and drawn under the paper's numbers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from looking import alike
from robusteval.analysis.metrics.covariance import ENTRIES, shown_entries
from robusteval.analysis.results import Results
from robusteval.auditing.protocol import parse_protocol
from robusteval.auditing.session import run_audit
from robusteval.auditing.verify import verify
from robusteval.data import read_images
from robusteval.models import checkpoints
from robusteval.reports import write_report
from robusteval.reports.chapters import covariance, kernels, softmax_line
from robusteval.reports.figures.drawing import style
from robusteval.results.records import MetricRecord
from robusteval.results.run import Run

METRICS = [
    {"method": "covariance", "witnesses": "fgsm-linf"},
    {"method": "softmax-line", "witnesses": "fgsm-linf", "shown": 4, "points": 11},
    {"method": "kernels", "shown": 3, "side": 32},
]


def audit(demo_folder: Path, out: Path, budget: float) -> Run:
    attacks = [{"method": "fgsm", "norm": "linf"}]
    data = {"name": "mine", "budgets": {"linf": [budget]}, "attacks": attacks, "metrics": METRICS}
    classifier = checkpoints.open_checkpoint(
        str(demo_folder / "digits-standard.safetensors"), "digits-cnn", input_shape=(1, 8, 8)
    )
    return run_audit(classifier, read_images("digits", 20), parse_protocol(data, "here"), out, batch_size=7)


@pytest.fixture(scope="module")
def run(demo_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    run = audit(demo_folder, tmp_path_factory.mktemp("set") / "run", 0.3)
    write_report(run)
    return run


def figure(run: Run, name: str) -> pd.DataFrame:
    assert (run.path / "figures" / f"{name}.png").stat().st_size > 5000
    return pd.read_csv(run.path / "figures" / f"{name}.csv")


def test_every_claim_is_computed_again(run: Run) -> None:
    assert list(verify(run)) == []


def test_titles_name_the_papers_figures(run: Run) -> None:
    plots = [plot for chapter in (covariance, softmax_line, kernels) for plot in chapter.plots(Results(run))]
    titles = " ".join(plot.title for plot in plots)
    for part in ("SGR, figure 1", "SGR, figure 2", "SGR, figure 5", "SGR, figure 6", "SmoothKernels, figure 1"):
        assert f"({part}" in titles
    page = (run.path / "report.html").read_text()
    assert all(plot.title in page for plot in plots)
    assert len({plot.name for plot in plots}) == len(plots)


def test_covariance_is_drawn_as_measured(run: Run) -> None:
    witnesses = run.table("witnesses")
    fooled = int((witnesses["success"] & (witnesses["linf"] > 0)).sum())
    assert fooled >= 8
    (grid,) = covariance.grids(Results(run))
    assert grid.rows[0][:3] == ["FGSM, Linf", "grey", str(fooled)]
    length = float(grid.rows[0][3])
    curve = figure(run, "covariance-covariance")
    assert curve["covariance"].iloc[0] == pytest.approx(1)
    assert np.interp(length, curve["displacement"], curve["covariance"]) == pytest.approx(np.exp(-1), abs=0.01)
    matrices = figure(run, "covariance-matrices")
    assert matrices["matrix"].unique().tolist() == ["FGSM, Linf", "images"]
    # The middle half of 64 pixels; over the largest entry of the whole matrix.
    drawn = matrices[matrices["matrix"] == "images"].drop(columns=["matrix", "row"]).to_numpy()
    pixels = np.stack([run.arrays("clean")[i].ravel() for i in run.table("images")["image_id"]])
    expected = np.cov(pixels.T, bias=True)
    assert np.allclose(drawn, (expected / np.abs(expected).max())[16:48, 16:48], atol=1e-3)
    noise = figure(run, "covariance-long-range")
    first = noise[noise["matrix"] == "zeta 2"].drop(columns=["matrix", "row"]).to_numpy()[0]
    assert first[[0, 1, 8, 9]] == pytest.approx(np.exp(-np.array([0, 1, 1, 2**0.5]) / 2), abs=1e-3)
    lines = figure(run, "covariance-functions")
    assert lines["line"].nunique() == 6


def test_lines_are_drawn_for_fooled_images(run: Run) -> None:
    data = figure(run, "softmax-line-softmax-line")
    assert data["image_id"].nunique() == 4
    assert sorted(data["t"].unique()) == list(range(-5, 6))
    totals = data.groupby(["image_id", "t"])["probability"].sum()
    assert np.allclose(totals, 1)
    classes = run.table("images").set_index("image_id")["predicted"]
    at_image = data[data["t"] == 0].sort_values("probability").groupby("image_id")["class"].last()
    at_witness = data[data["t"] == 1].sort_values("probability").groupby("image_id")["class"].last()
    assert (at_image == classes[at_image.index]).all()
    assert (at_witness != classes[at_image.index]).all()
    (grid,) = softmax_line.grids(Results(run))
    assert grid.rows[0][:2] == ["FGSM, Linf, closest witnesses", "20"]


def test_lines_of_one_figure_differ_in_colour_or_dashes(run: Run) -> None:
    assert len({style(i) for i in range(28)}) == 28
    results = Results(run)
    for plot in [p for chapter in (covariance, softmax_line, kernels) for p in chapter.plots(results)]:
        assert alike(plot) == [], plot.name


def test_kernels_are_drawn_and_listed(run: Run) -> None:
    classifier = checkpoints.open_checkpoint(str(run.manifest.model.path), "digits-cnn", input_shape=(1, 8, 8))
    weights = dict(classifier.module.named_parameters())["network.conv1.weight"]
    data = figure(run, "kernels-kernels")
    assert torch.allclose(torch.tensor(data["weight"].to_numpy()).float(), weights[:3].detach().flatten(), atol=1e-6)
    assert figure(run, "kernel-spectrum-kernels")["layer"].unique().tolist() == ["conv1", "conv2"]
    (grid,) = kernels.grids(Results(run))
    assert [row[0] for row in grid.rows] == ["conv1", "conv2"]
    assert all(0 < float(row[2]) < 8 for row in grid.rows)


def test_an_attack_that_fools_nobody_stops_neither_audit_nor_report(demo_folder: Path, tmp_path: Path) -> None:
    run = audit(demo_folder, tmp_path / "run", 1e-6)
    status = {s.name: (s.status, s.reason) for s in run.manifest.of(MetricRecord)}
    for name in ("covariance", "softmax-line"):
        assert status[name][0] == "unavailable"
        assert "expected witnesses of 'fgsm-linf'" in status[name][1]
    assert status["kernels"] == ("done", "")
    write_report(run)
    assert covariance.plots(Results(run)) == [] == softmax_line.plots(Results(run))
    assert covariance.grids(Results(run)) == [] == softmax_line.grids(Results(run))


def test_matrices_are_drawn_with_a_pixels_channels_side_by_side() -> None:
    """Of two channels of 2 x 2 pixels, 0 to 3 and 4 to 7, the middle half."""
    assert shown_entries((2, 2, 2)).tolist() == [1, 5, 2, 6]
    assert len(shown_entries((3, 32, 32))) == ENTRIES
    assert shown_entries((1, 1, 1)).tolist() == [0]
