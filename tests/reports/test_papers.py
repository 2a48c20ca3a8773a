"""The papers' tables, from runs whose numbers are known by hand."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from paper_tables import CORRECT, INF, tables
from scipy.stats import norm as norm_of

from robusteval.analysis.intervals import clopper_pearson
from robusteval.reports import paper_tables, write_report
from robusteval.reports.papers import PAPERS
from robusteval.results.run import Run
from run_fixture import Fake, FakeCertificate, build_paper_run


def test_sgr_table_1(tmp_path: Path) -> None:
    def run(name: str, source: str, far: float) -> Run:
        grid = (4 / 255, 8 / 255)
        pgd = {"linf": [far, 4 / 255, INF, 0.0]}
        attacks = [
            Fake("rand", "uniform-noise", "linf", {"linf": [INF, INF, INF, 0.0]}, grid),
            Fake("pgd", "pgd", "linf", pgd, grid),
            Fake(f"transfer-from-{source}", "transfer", "linf", pgd, grid),
            Fake("lrc-8", "lrc", "l2", {"l2": [0.9, INF, INF, 0.0]}),
            Fake("lrc-8-0.1", "lrc", "l2", {"l2": [INF, INF, INF, 0.0]}),
            # Drawn anew, a smaller strength may find what a larger one missed; and what was added is of any size.
            Fake("lrc-8-0.2", "lrc", "l2", {"l2": [2.0, 1.5, INF, 0.0]}),
        ]
        # Of the misclassified image too; one was not found.
        fool = [("fool", "relative_distance", 0.0, [0.25, 0.5, np.nan, 0.75])]
        return build_paper_run(tmp_path / name, "sgr-2019", CORRECT, attacks, measurements=fool, name=name)

    found = tables(run("one", "two", 2 / 255), run("two", "one", 8 / 255))
    table = found["table-1-8"]
    assert table.headings == ["Train. M.", "TEST", "RAND", "PGD", "T-PGD", "from one", "from two", "FOOL"]
    # At 0, 4/255 and 8/255 3/4 of the images stand, then 1/4, 1/4 of one and 1/2, 1/4 of two.
    # rho_adv: of three of four.
    assert table.rows == [
        ["one", "75.0", "75.0", "37.5", "-", "-", "37.5", "0.500 (1 not found)"],
        ["two", "75.0", "75.0", "50.0", "-", "50.0", "-", "0.500 (1 not found)"],
    ]
    assert found["table-1-32"].rows[0][2:6] == ["-", "-", "-", "-"]
    # What was added counts for nothing: an image is fooled at a strength or it is not.
    assert found["figure-3"].rows[0] == ["one", "-", "-", "-", "50.0", "-", "-"]
    assert found["figure-4"].rows[0][1:7] == ["-", "-", "75.0", "25.0", "50.0", "-"]
    assert found["figure-1"].rows[0] == ["one", "-", "-", "-", "-"]
    assert found["figure-6"].rows[0] == ["one", "-"]


def test_sgr_decay_lengths_and_lines(tmp_path: Path) -> None:
    measured = [
        ("covariance-pgd", "decay_length_0_0", 0.0, 1.234),
        ("covariance-pgd", "data_decay_length_0_0", 0.0, 5.0),
    ]
    measured += [("covariance-fgsm", "covariance_0_0", 0.0, 1.0), ("softmax-line", "variation", 5.0, 1.5)]
    found = tables(build_paper_run(tmp_path, "sgr-2019", CORRECT, [], statistics=measured))
    assert found["figure-1"].headings == ["Model", "PGD, within", "FGSM, within", "DeepFool, within", "images, within"]
    assert found["figure-1"].rows == [["tiny", "1.23", "-", "-", "5.00"]]
    assert found["figure-6"].rows == [["tiny", "1.50"]]


def test_gradreg_tables(tmp_path: Path) -> None:
    attacks = [
        Fake("pgd-linf", "pgd", "linf", {"linf": [0.005, 0.02, INF, 0.0], "l2": [0.7, 0.5, INF, 0.0]}),
        Fake("boundary", "boundary", "l2", {"linf": [0.3, 0.3, INF, 0.0], "l2": [0.3, 0.6, INF, 0.0]}),
    ]
    certificates = [
        FakeCertificate("l-bound-l2", [0.1, 0.2, 0.3, 0.9]),
        FakeCertificate("omega-bound-l2", [0.25, 0.75, 1.5, 0.0]),
        FakeCertificate("omega-bound-l2-ascent", [0.25, 0.25, 0.5, 0.0]),
        FakeCertificate("omega-bound-linf", [0.01, 0.001, 0.05, 0.0], "linf"),
        FakeCertificate("smoothing-0.25", [0.5, 0.25, 0.0, 0.0], settings={"sigma": 0.25, "n": 1000, "alpha": 0.001}),
        FakeCertificate("smoothing-0.5", [0.25, 1.0, 0.0, 0.0], settings={"sigma": 0.5, "n": 1000, "alpha": 0.001}),
    ]
    statistics = [("l-bound-l2", "observed_maximum", 0.0, 7.5)]
    omega = {"omega-bound-l2": (0.25, 1.5), "omega-bound-l2-ascent": (0.75, 2.5)}
    statistics += [
        (label, "omega", eps, v) for label, pair in omega.items() for eps, v in zip((0.5, 1.0), pair, strict=True)
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
    # Sampled first; by ascent did not run in Linf. 0.01 lies above the witness at 0.005.
    assert found["table-1"].rows == [
        ["tiny", "25.0", "50.0", "75.0", "-", "-", "50.0", "75.0", "-", "1 of 2", "-"],
    ]
    assert found["table-4"].rows == [["tiny", "25.0", "50.0", "75.0"]]
    # Of 0.1, 0.2, 0.3 and 0 (the last image is wrong: its radius speaks for another class); of 0.3, 0.5 and 0.
    assert found["table-2"].rows[0][2:5] == ["0.1500", "0.6250", "0.2500"]
    assert found["table-2"].rows[0][5:] == ["0.2667 (1 not found)", "-", "0 of 2", "1 of 2", "0 of 2"]
    assert found["table-3"].rows == [["tiny", "3.5", "7.5", "0.25", "1.5", "0.75", "2.5"]]
    # One row; at each radius the better sigma that reaches it; nothing beyond 0.5 times 2.4632.
    cells = ["50.0", "75.0", "75.0", "75.0", "-", "-", "-", "-", "1.2316"]
    assert found["table-5"].rows == [["tiny", *cells]]
    assert norm_of.ppf(0.001 ** (1 / 1000)) / 2 == pytest.approx(1.2316, abs=1e-4)
    assert found["table-6"].rows == [["tiny", "25.0", "50.0", "50.0", "75.0", "75.0", "75.0", "1 of 2"]]
    assert found["table-6-by-ascent"].rows == [["tiny", "25.0", "75.0", "100.0", "100.0", "100.0", "100.0", "0 of 2"]]
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
        ["tiny", "L2, of the logits' L2 distance", "trained", "-", *none],
        ["tiny", "L2, of the logits' L2 distance", "random weights", "-", *none],
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
    # One image has no witness at all: the search failed. Of the two that stand at 0.1 it is one.
    assert cells == {
        "table-1": "0.250 (1 not found)",
        "table-1-0.1": "0.500 (1 not found)",
        "table-1-0.05": "0.500 (1 not found)",
    }
    assert "failures of the search" in found["table-1"].title
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
        | {f"lrc-8-{s:g}" for s in sgr.STRENGTHS if s != sgr.AT}
        | {*sgr.PERTURBATIONS.values(), sgr.LINE},
        "gradreg-2020": {*gradreg.SMOOTHING}
        | {label.format(norm=norm) for label in gradreg.OMEGA.values() for norm in ("l2", "linf")},
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
