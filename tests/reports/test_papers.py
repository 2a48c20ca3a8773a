"""Curves, areas and distances of a report, and the papers' tables, from runs whose numbers are known by hand."""

from __future__ import annotations

import csv
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from robusteval.analysis.curves import area, curve
from robusteval.analysis.distances import reaches, stage_wins, wins
from robusteval.analysis.intervals import clopper_pearson, mean, mean_share
from robusteval.analysis.results import Results
from robusteval.attacks import ATTACKS
from robusteval.reports import accuracy_curve, paper_tables, write_report
from robusteval.reports.grid import Grid
from robusteval.reports.papers import PAPERS
from robusteval.results.run import Run
from run_fixture import Fake, FakeCertificate, build_paper_run

INF = math.inf
CORRECT = [True, True, True, False]


def tables(*runs: Run) -> dict[str, Grid]:
    return {grid.name: grid for grid in paper_tables(runs)}


# Curves and areas


def test_a_curve_is_right_on_any_grid() -> None:
    far = [0.0, 0.1, 0.1, 0.3, INF]
    steps = curve(far)
    assert steps["budget"].tolist() == [0.0, 0.1, 0.3]
    assert steps["share"].tolist() == [0.8, 0.4, 0.2]
    given = curve(far, [0.05, 0.1, 1.0, INF])
    assert given["share"].tolist() == [0.8, 0.4, 0.2, 0.2]
    low, high = clopper_pearson([4, 2, 1, 1], 5)
    assert given["low"].tolist() == low.tolist()
    assert given["high"].tolist() == high.tolist()


def test_the_area_is_the_integral_of_the_curve() -> None:
    rng = np.random.default_rng(0)
    far = np.append(rng.exponential(0.1, 40), [0.0, INF, INF])
    limit = 32 / 255
    steps = curve(far)
    at = np.append(steps["budget"][steps["budget"] < limit], limit)
    exact = float((np.diff(at) * steps["share"][: len(at) - 1]).sum() / limit)
    assert area(far, limit).value == pytest.approx(exact, rel=1e-9)
    assert area([INF, INF], limit).value == 1.0
    assert area([0.0], limit).value == 0.0
    assert area([limit / 2, INF], limit).value == 0.75


@pytest.mark.parametrize("spread", ["shares", "uniform", "nearly all one"])
def test_the_interval_of_a_mean_share_is_never_too_narrow(spread: str) -> None:
    rng = np.random.default_rng(1)
    draws: dict[str, tuple[Callable[[], Any], float]] = {
        "shares": (lambda: rng.random(30) < 0.2, 0.2),
        "uniform": (lambda: rng.random(30), 0.5),
        "nearly all one": (lambda: 1 - rng.random(30) * (rng.random(30) < 0.04), 0.98),
    }
    draw, truth = draws[spread]
    trials = 2000
    misses = 0
    for _ in range(trials):
        found = mean_share(draw())
        misses += not found.low <= truth <= found.high
    # At most 5 % miss; the bound is the 99.99 % quantile of so many misses at exactly 5 %.
    assert misses <= stats.binom.ppf(0.9999, trials, 0.05)
    assert mean_share([1.0] * 30).low < 0.95


def test_the_mean_has_students_interval() -> None:
    values = [0.1, 0.4, 0.2, 0.9]
    found = mean(values)
    expected = stats.t.interval(0.95, 3, np.mean(values), stats.sem(values))
    assert (found.low, found.high) == pytest.approx(expected)
    assert mean(values, least=0.0).low == 0.0
    assert math.isnan(mean([]).value)


# Distances


@pytest.fixture
def distances(tmp_path: Path) -> Run:
    near = Fake("deepfool", "deepfool", "l2", {"l2": [0.4, 0.8, INF, 0.0], "linf": [0.2, 0.3, INF, 0.0]})
    fixed = Fake("pgd", "pgd", "linf", {"l2": [1.0, INF, 0.6, 0.0], "linf": [0.1, INF, 0.05, 0.0]}, (0.05, 0.1))
    stages = [("pgd", "stage", 0.05, [np.nan, np.nan, 3.0, np.nan]), ("pgd", "stage", 0.1, [1.0, np.nan, 4.0, np.nan])]
    stages.append(("deepfool", "deformation", 0.0, [1.0, 3.0, np.nan, np.nan]))
    return build_paper_run(
        tmp_path, "mine", CORRECT, [near, fixed], budgets={"l2": [1.0], "l0": [4]}, measurements=stages
    )


def test_failures_are_counted_and_shown(distances: Run) -> None:
    found = {(r.stage, r.norm): r for r in reaches(Results(distances))}
    deepfool = found["deepfool", "l2"]
    assert (deepfool.n, deepfool.failures) == (4, 1)
    assert deepfool.mean.value == pytest.approx((0.4 + 0.8 + 0) / 3)
    assert deepfool.median.value == pytest.approx(0.6)
    assert deepfool.mean_square == pytest.approx((0.4**2 + 0.8**2) / 16 / 3)
    # The images are 4 x 4 of brightness 0.5: their L2 size is 2.
    assert deepfool.relative == pytest.approx(1.2 / 2 / 3)
    assert found["pgd", "linf"].relative == pytest.approx(0.15 / 0.5 / 3)
    everything = found["", "l2"]
    assert everything.failures == 0
    assert everything.mean.value == pytest.approx((0.4 + 0.8 + 0.6) / 4)
    # PGD in its own norm was tried up to 0.1, DeepFool without a limit.
    areas = dict(found["pgd", "linf"].areas)
    assert areas[32 / 255] is None
    share = areas[8 / 255]
    assert share is not None
    assert share.value == pytest.approx(3 / 4)
    assert all(share is not None for _, share in found["", "linf"].areas)


def test_the_closest_attack_wins_an_image(distances: Run) -> None:
    counts = wins(Results(distances))
    # The norms of the protocol's budgets first.
    assert counts.columns.tolist() == ["l2", "l0", "linf"]
    rows = dict(zip(counts.index, counts[["l2", "linf"]].to_numpy().tolist(), strict=True))
    assert rows["DeepFool, L2"] == [2, 1]
    assert rows["PGD, Linf"] == [1, 2]
    assert rows["the image itself"] == [1, 1]


def test_the_stage_that_broke_an_image_counts_once(distances: Run) -> None:
    record = distances.manifest.stage("pgd").model_copy(update={"ensemble": ATTACKS["auto"].ensemble})
    ensemble = replace(distances, manifest=distances.manifest.with_stage(record))
    counts = {stage: n for _, stage, n in stage_wins(Results(ensemble))}
    assert counts == {"APGD on cross-entropy": 1, "targeted APGD": 0, "targeted FAB": 1, "Square": 0}


def test_a_report_shows_distances_in_every_norm_asked_for(distances: Run) -> None:
    report = write_report(distances)
    page, text = report.read_text(), report.with_suffix(".md").read_text()
    assert {p.stem for p in (distances.path / "figures").glob("curves-*.csv")} == {
        "curves-l0",
        "curves-l2",
        "curves-linf",
    }
    for part in (
        "Minimum distances in L2",
        "Averaged accuracy in Linf",
        "Closest witness of each image",
        "deformation",
    ):
        assert part in page
        assert part in text
    rows = list(csv.DictReader((distances.path / "tables" / "distances.csv").open()))
    row = next(r for r in rows if r["attack"] == "DeepFool, L2" and r["norm"] == "l2")
    assert row["not_found"] == "1"
    assert float(row["median"]) == pytest.approx(0.6)
    curves = list(csv.DictReader((distances.path / "figures" / "curves-linf.csv").open()))
    assert {r["attack"] for r in curves} == {"PGD", "all attacks"}
    assert all(float(r["low"]) <= float(r["share"]) <= float(r["high"]) for r in curves)
    assert "Tables of" not in page


def test_accuracy_curve_takes_any_attack_norm_and_grid(distances: Run) -> None:
    assert accuracy_curve(distances, "linf", [0.0, 0.1, 0.2], "deepfool")["share"].tolist() == [0.75, 0.75, 0.5]
    assert accuracy_curve(distances, "l2", [0.5])["share"].tolist() == [0.5]
    assert accuracy_curve(distances, "l2", [0.5], "no-such")["share"].tolist() == [1.0]


# The papers' tables


def test_sgr_table_1(tmp_path: Path) -> None:
    def run(name: str, source: str, far: float) -> Run:
        grid = (4 / 255, 8 / 255)
        pgd = {"linf": [far, 4 / 255, INF, 0.0]}
        attacks = [
            Fake("rand", "uniform-noise", "linf", {"linf": [INF, INF, INF, 0.0]}, grid),
            Fake("pgd", "pgd", "linf", pgd, grid),
            Fake(f"transfer-from-{source}", "transfer", "linf", pgd, grid),
            Fake("deepfool", "deepfool", "l2", {"l2": [1.0, 1.0, 2.0, 0.0]}),
            Fake("lrc-8", "lrc", "l2", {"l2": [4 * 0.3, 4 * 0.05, INF, 0.0]}),
        ]
        return build_paper_run(tmp_path / name, "sgr-2019", CORRECT, attacks, name=name)

    found = tables(run("one", "two", 2 / 255), run("two", "one", 8 / 255))
    table = found["table-1-8"]
    assert table.headings == ["Train. M.", "TEST", "RAND", "PGD", "T-PGD", "from two", "from one", "FOOL"]
    # Areas over 8/255: one's images hold out 1/4, 1/2, 1, 0 of it; two's 1, 1/2, 1, 0. rho_adv: (1/2 + 1/2 + 1) / 4.
    assert table.rows == [
        ["one", "75.0", "75.0", "43.8", "-", "43.8", "-", "0.500"],
        ["two", "75.0", "75.0", "62.5", "-", "-", "62.5", "0.500"],
    ]
    assert found["table-1-32"].rows[0][2:6] == ["-", "-", "-", "-"]
    # Strength is the root mean square over the 16 values.
    assert found["figure-3"].rows[0] == ["one", "-", "-", "-", "25.0", "-"]
    assert found["figure-4"].rows[0][1:6] == ["75.0", "50.0", "50.0", "50.0", "25.0"]
    assert found["figure-1"].rows[0] == ["one", "within", "-", "-", "-", "-"]
    assert found["figure-6"].rows[0] == ["one", "-"]


def test_sgr_decay_lengths_and_lines(tmp_path: Path) -> None:
    measured = [
        ("covariance-pgd", "decay_length_0_0", 0.0, 1.234),
        ("covariance-pgd", "data_decay_length_0_0", 0.0, 5.0),
    ]
    measured += [("covariance-fgsm", "covariance_0_0", 0.0, 1.0), ("softmax-line", "variation", 5.0, 1.5)]
    found = tables(build_paper_run(tmp_path, "sgr-2019", CORRECT, [], statistics=measured))
    assert found["figure-1"].headings == ["Model", "channels", "PGD", "FGSM", "DeepFool", "images"]
    assert found["figure-1"].rows == [["tiny", "within", "1.23", "-", "-", "5.00"]]
    assert found["figure-6"].rows == [["tiny", "1.50"]]


def test_gradreg_tables(tmp_path: Path) -> None:
    attacks = [
        Fake("pgd-linf", "pgd", "linf", {"linf": [0.005, 0.02, INF, 0.0], "l2": [0.7, 0.5, INF, 0.0]}),
        Fake("boundary", "boundary", "l2", {"linf": [0.3, 0.3, INF, 0.0], "l2": [0.3, 0.6, INF, 0.0]}),
    ]
    certificates = [
        FakeCertificate("l-bound-l2", [0.1, 0.2, 0.3, 0.9]),
        FakeCertificate("omega-bound-l2", [0.25, 0.5, 1.5, 0.0]),
        FakeCertificate("omega-bound-linf", [0.01, 0.001, 0.05, 0.0], "linf"),
        FakeCertificate("smoothing-0.5", [0.25, 2.0, 0.0, 0.0]),
    ]
    statistics = [
        ("l-bound-l2", "observed_maximum", 0.0, 7.5),
        ("omega-bound-l2", "omega_sampled", 0.5, 0.25),
        ("omega-bound-l2", "omega_sampled", 1.0, 1.5),
        ("omega-bound-l2", "omega_ascent", 0.5, 0.75),
        ("omega-bound-l2", "omega_ascent", 1.0, 2.5),
    ]
    measurements = [("l-bound-l2", "gradient_norm", 0.0, [1.0, 2.0, 3.0, 8.0])]
    run = build_paper_run(
        tmp_path,
        "gradreg-2020",
        CORRECT,
        attacks,
        certificates=certificates,
        statistics=statistics,
        measurements=measurements,
    )
    found = tables(run)
    assert found["table-1"].rows == [["tiny", "25.0", "50.0", "75.0", "50.0", "75.0"]]
    assert found["table-4"].rows == [["tiny", "25.0", "50.0", "75.0"]]
    # Of 0.1, 0.2, 0.3 and 0 (the last image is wrong: its radius speaks for another class); of 0.3, 0.5 and 0.
    assert found["table-2"].rows[0][2:4] == ["0.1500", "0.5625"]
    assert found["table-2"].rows[0][4] == "0.2667 (1 not found)"
    assert found["table-3"].rows == [["tiny", "3.5", "7.5", "0.25", "1.5", "0.75", "2.5"]]
    assert found["table-5"].rows == [
        ["tiny, sigma 0.5", "50.0", "75.0", "75.0", "75.0", "75.0", "75.0", "75.0", "75.0"]
    ]
    assert found["table-6"].rows == [["tiny", "25.0", "50.0", "75.0", "75.0", "75.0", "75.0"]]
    assert found["figure-1a"].rows[0][4:6] == ["50.0", "75.0"]


def test_opnorm_tables(tmp_path: Path) -> None:
    attacks = [Fake("pga-l2", "pgd", "l2", {"l2": [0.2, 0.5, INF, 0.0]}, (0.2, 0.5, 1.0))]
    spectrum = [("jacobian-spectrum", "singular_value", 1.0, [4.0, 2.0, 3.0, 3.0])]
    spectrum.append(("jacobian-spectrum", "singular_value_adversarial", 1.0, [5.0, 7.0, np.nan, np.nan]))
    norms = [("operator-norm", "operator_norm_1_2", 0.0, [1.0, 2.0, 3.0, 4.0])]
    norms.append(("operator-norm", "operator_norm_inf_2_at_least", 0.0, [8.0, 8.0, 8.0, 10.0]))
    lines = [("linearity", "deviation_random", d, [d, 3 * d, 2 * d, 2 * d]) for d in (0.0, 0.5)]
    lines += [("linearity", "largest_singular_value_adversarial", d, [4.0, np.nan, 5.0, np.nan]) for d in (0.0, 0.5)]
    lines.append(("linearity", "witness_distance", 0.0, [0.1, np.nan, 0.2, np.nan]))
    lines += [("activation-patterns", f"unchanged_at_{at}", 0.1, [0.5, 0.6, 0.7, 0.8]) for at in ("data", "noise")]
    aligned = [("alignment-pga-linf", "alignment", 2.0, [0.5, 0.25, np.nan, np.nan])]
    aligned.append(("alignment-pga-linf", "alignment_twin", 1.0, [0.125, np.nan, np.nan, np.nan]))
    measured = [*spectrum, *aligned, *norms, *lines]
    found = tables(build_paper_run(tmp_path, "opnorm-2020", CORRECT, attacks, measurements=measured))
    assert found["table-1"].headings[1:] == ["Domain", "Co-domain L1", "Co-domain L2", "Co-domain Linf"]
    assert [row[1:] for row in found["table-1"].rows] == [
        ["L1", "-", "2.5", "-"],
        ["L2", "-", "-", "-"],
        ["Linf", "-", "at least 8.5", "-"],
    ]
    assert found["figure-4-left"].headings == ["Training method", "Direction", "0", "0.5"]
    assert found["figure-4-left"].rows == [["tiny", "random", "0", "1"], ["tiny", "adversarial", "-", "-"]]
    assert found["figure-4-right"].rows[1] == ["tiny", "adversarial", "4.5", "4.5"]
    assert found["figure-5-left"].rows == [["tiny", "random", "65.0"], ["tiny", "adversarial", "-"]]
    assert found["figure-5-right"].rows == [["tiny", "random", "65.0"]]
    assert found["table-2"].rows == [["tiny", "75.0"]]
    assert found["figure-3-l2"].headings == ["Training method", "0", "0.2", "0.5", "1"]
    assert found["figure-3-l2"].rows == [["tiny", "75.0", "50.0", "25.0", "25.0"]]
    none = ["-"] * 8
    assert found["figure-2"].rows == [
        ["tiny", "features", "clean", "3", *none],
        ["tiny", "features", "adversarial", "6", *none],
        ["tiny", "features", "random weights", "-", *none],
        ["tiny", "logits", "clean", "-", *none],
        ["tiny", "logits", "adversarial", "-", *none],
        ["tiny", "logits", "random weights", "-", *none],
    ]
    assert found["figure-2-right"].rows[2:] == [
        ["tiny", "Linf", "trained", "-", "0.375", *none[1:]],
        ["tiny", "Linf", "random weights", "0.125", *none],
    ]


def test_moments_tables(tmp_path: Path) -> None:
    attacks = [
        Fake("pgd", "pgd", "linf", {"linf": [0.1, 0.1, 0.1, 0.0], "l2": [0.4, 0.4, 0.4, 0.0]}),
        Fake("lbfgs", "lbfgs", "l2", {"l2": [0.8, INF, 0.8, 0.0]}),
    ]
    kept = [
        ("gaussian-noise", "noise_area_single", 0.0, [0.5, 1.0, 0.75, 0.75]),
        ("uniform-noise", "noise_area", 0.0, [0.0, 0.5, np.nan, 1.0]),
        ("analytic-moments", "agreement", 0.25, [1.0, np.nan, np.nan, 0.0]),
        ("analytic-moments", "output_error", 0.25, [0.1, 0.2, 0.3, 0.2]),
        ("analytic-moments", "clean_error", 0.25, [0.4, 0.4, 0.4, 0.8]),
    ]
    found = tables(build_paper_run(tmp_path, "moments-2020", CORRECT, attacks, measurements=kept))
    # 0.4^2 / 16 on three of four images; 0.8^2 / 16 on two of the three that were found.
    assert found["table-4"].headings == ["Model", "PGD", "LBF", "GSM", "AGA", "AUA", "DF2", "GNR", "ACC"]
    assert found["table-4"].rows[0][1:3] == ["7.50e-03", "2.67e-02 (1 not found)"]
    assert found["table-4"].rows[0][3:] == ["-", "-", "-", "-", "75.0", "75.0"]
    assert found["table-1"].headings == ["Model", "PGD", "LBFGS", "FGSM", "DF2", "GNR", "ACC"]
    low, high = clopper_pearson(3, 4, 0.025)
    ours, theirs = found["figure-6"].rows
    assert ours == [
        "tiny",
        "Gaussian",
        "one sample",
        "75.0 %",
        f"{100 * low - 0.05:.1f} to {100 * high + 0.05:.1f} %",
        "4",
    ]
    assert [*theirs[:4], theirs[5]] == ["tiny", "uniform", "each of m samples", "50.0 %", "3"]
    assert [row[1] for row in found["equation-3"].rows] == ["0.125", "0.25", "0.325", "0.5", "1"]
    assert found["equation-3"].rows[0][2:] == ["-", "-", "0", "-", "-"]
    assert found["equation-3"].rows[1][2:] == ["50.0 %", "1.2 to 98.8 %", "2", "0.2", "0.5"]


def test_smoothkernel_tables(tmp_path: Path) -> None:
    far = {"l2": [0.5, 1.0, INF, 0.0], "linf": [0.04, 0.2, INF, 0.0], "l0": [10.0, 16.0, INF, 0.0]}
    run = build_paper_run(tmp_path, "smoothkernel-2020", CORRECT, [Fake("carlini-wagner", "carlini-wagner", "l2", far)])
    found = tables(run)
    assert found["table-1"].headings == ["Model", "clean", "FGSM", "PGD", "DF(L2)", "DF(Linf)", "C&W", "ADef", "S&P"]
    cells = {name: found[name].rows[0][6] for name in ("table-1", "table-1-0.1", "table-1-0.05")}
    assert cells == {"table-1": "0.250", "table-1-0.1": "0.500", "table-1-0.05": "0.500"}
    assert found["table-1"].rows[0][:3] == ["tiny", "0.750", "-"]
    assert found["figure-1"].rows == []
    curves = {row[0]: row[2:] for row in found["figure-7"].rows}
    assert curves["C&W"][2:6] == ["0.750", "0.500", "0.250", "0.250"]


def test_smoothkernel_figure_1_lists_layers_in_their_order(tmp_path: Path) -> None:
    measured = [("kernels", "smoothness:b", 1.0, 12.0), ("kernels", "smoothness:a", 2.0, 0.0)]
    measured += [("kernels", "smoothness_normalised:b", 1.0, 2.5), ("kernels", "high_frequency_share:b", 1.0, 0.71)]
    measured += [("kernels", "spectrum:b", 0.0, 1.0), ("kernels", "spectrum:b", 0.1, 1.0)]
    found = tables(build_paper_run(tmp_path, "smoothkernel-2020", CORRECT, [], statistics=measured))
    assert found["figure-1"].rows == [["tiny", "b", "12", "2.5", "0.710"], ["tiny", "a", "0", "-", "-"]]


@pytest.mark.parametrize("protocol", PAPERS)
def test_a_run_in_which_nothing_worked_still_has_its_tables(tmp_path: Path, protocol: str) -> None:
    run = build_paper_run(tmp_path, protocol, CORRECT, [])
    report = write_report(run)
    page, text = report.read_text(), report.with_suffix(".md").read_text()
    assert f"Tables of {PAPERS[protocol][0]}" in page
    assert f"## Tables of {PAPERS[protocol][0]}" in text
    for grid in paper_tables([run]):
        assert {len(row) for row in grid.rows} <= {len(grid.headings)}
        path = tmp_path / "tables" / f"paper-{protocol}-{grid.name}.csv"
        assert list(csv.reader(path.open())) == [grid.headings, *grid.rows]


def test_runs_of_other_protocols_are_left_out(tmp_path: Path) -> None:
    assert paper_tables([build_paper_run(tmp_path, "quick", CORRECT, [])]) == []
    assert paper_tables([]) == []


def test_every_paper_has_its_protocol_and_every_label_exists() -> None:
    """The tables look stages up by label: a renamed one would leave dashes."""
    import re
    import tomllib
    from importlib.resources import files

    from robusteval.auditing.protocol import parse_protocol
    from robusteval.reports.papers import gradreg, moments, opnorm, sgr, smoothkernels

    folder = files("robusteval") / "protocols"
    wanted = {
        "sgr-2019": {*sgr.WHITE_BOX.values(), sgr.TRANSFER, sgr.FOOL, *(f"lrc-{z}" for z in sgr.ZETAS)}
        | {*sgr.PERTURBATIONS.values(), sgr.LINE},
        "gradreg-2020": {*gradreg.SMOOTHING},
        "opnorm-2020": {*opnorm.ATTACKS, *opnorm.MAPS.values(), *opnorm.ALIGNMENTS.values()},
        "moments-2020": {*moments.ATTACKS.values()},
        "smoothkernel-2020": {*smoothkernels.ATTACKS.values(), smoothkernels.KERNELS},
    }
    assert wanted.keys() == PAPERS.keys()
    for name, labels in wanted.items():
        data = tomllib.loads((folder / f"{name}.toml").read_text())
        assert data["name"] == name
        protocol = parse_protocol(data, name)
        given = {e.label for kind in (protocol.attacks, protocol.certificates, protocol.metrics) for e in kind}
        assert labels <= given, name
        assert re.match(r"\w+ \(\d{4}\): ", data["description"])
