"""The certification report: what it says of each kind of bound, its numbers, the command, and a real browser."""

from __future__ import annotations

import html
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from markupsafe import escape

from commands import here
from records import with_changes
from robusteval.analysis import names
from robusteval.analysis.certification import covered, radii_by_image, wrong_by_image
from robusteval.analysis.claims_made import claims_made
from robusteval.analysis.results import Results
from robusteval.auditing.protocol import certificates_only, parse_protocol, read_protocol
from robusteval.cli.recording import make_record
from robusteval.core.errors import UserError
from robusteval.core.methods import Guarantee
from robusteval.reports.certification.page import write_certification
from robusteval.reports.certification.tables import claims_grid, share_grid
from robusteval.reports.certification.words import statements
from robusteval.results.digest import digest
from robusteval.results.records import AttackRecord
from robusteval.results.run import Run
from robusteval.results.verification import Checked, read_verification
from run_fixture import EVIL, IDS, L_BOUND, SMOOTHING, FakeCertificate, build_paper_run, build_run
from visiting import Visit


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return build_run(tmp_path_factory.mktemp("certified"))


@pytest.fixture(scope="module")
def page(run: Run) -> str:
    return write_certification(run).read_text()


def test_each_kind_says_what_it_is_once(run: Run, page: str) -> None:
    confidence, estimate = statements(covered(Results(run)))
    assert (confidence.kind, estimate.kind) == ("confidence", "estimate")
    assert "guarantees nothing" in estimate.says
    assert "probability of at most alpha" in confidence.says
    assert "an estimate" in estimate.says.lower()
    assert "without that noise" in confidence.leaves_open
    rows = [dict(zip(s.certificates.headings, *s.certificates.rows, strict=True)) for s in (confidence, estimate)]
    subject = names.subject("smooth(f, 0.25)")
    assert (rows[0]["speaks of"], rows[0]["alpha"], rows[1]["speaks of"]) == (subject, "0.001", "the model")
    assert [rows[1][k] for k in ("radius above 0", "median of these", "wrong class")] == ["7 of 8", "0.3000", "1"]
    for said in (confidence.says, estimate.says):
        assert page.count(str(escape(said))) == 1


def test_a_proof_is_said_to_be_one(tmp_path: Path) -> None:
    run = with_changes(build_run(tmp_path), "l-bound-l2", method="crown", guarantee=Guarantee.PROOF)
    proof = statements(covered(Results(run)))[0]
    assert proof.kind == "proof"
    assert "mathematical proof" in proof.says


def test_the_summary_counts_what_is_certified_and_by_what(tmp_path: Path) -> None:
    """The best proof of each image counts, in each norm that it holds in: a radius in L2 holds in L1, not the
    other way round. An estimate does not count."""
    run = build_paper_run(
        tmp_path,
        "mine",
        [True, True, True, False],
        [],
        budgets={"l2": [0.5]},
        certificates=[
            FakeCertificate("l-bound-l2", [9.0] * 4),
            FakeCertificate("lipschitz-l2", [0.6, 0.1, 0.1, 0.6]),
            FakeCertificate("crown-l1", [0.0, 0.7, 0.0, 0.9], norm="l1"),
        ],
    )
    results = Results(run)
    first, second = claims_made(results, covered(results))
    assert (first.guarantee, first.norm, first.radius, first.share.count, first.share.n) == ("proof", "l2", 0.5, 1, 4)
    assert (second.guarantee, second.norm, second.radius, second.share.count) == ("proof", "l1", None, 3)
    text = write_certification(run).read_text()
    assert "tiny classifies 3 of 4 images correctly as they are: clean accuracy 75.0 %" in text
    assert "By proof, the model keeps 1 of 4 images right within L2 0.5." in text
    assert claims_grid([first]).rows[0][:3] == ["L2 0.5", "1 of 4", "25.0 %"]


def test_a_run_of_estimates_certifies_nothing(tmp_path: Path) -> None:
    bound = FakeCertificate("l-bound-l2", [9.0] * 3)
    run = build_paper_run(tmp_path, "mine", [True] * 3, [], budgets={"l2": [0.5]}, certificates=[bound])
    text = write_certification(run).read_text()
    assert "No image is certified: the run has estimates alone, which guarantee nothing." in text
    assert "By proof" not in text


def test_it_says_whether_it_was_verified(run: Run, tmp_path: Path) -> None:
    """In the run it cannot: nothing is written into it. Beside a record it says what that says."""
    assert "Not verified yet." in (run.path / "certification.html").read_text()
    record = make_record(run, [Checked(what="radii", values=12)], ["the attacks"], [], "cpu", 1.0)
    text = write_certification(run, tmp_path, record).read_text()
    assert "Not verified" not in text
    assert record.sentence in text
    assert "verification.json beside this page" in text
    assert record.digest in text
    wrong = make_record(run, [Checked(what="radii", values=12)], [], ["a radius"], "cpu", 1.0)
    assert "not found right" in write_certification(run, tmp_path, wrong).read_text()


def test_versions_and_the_digest_are_on_the_page(run: Run, page: str) -> None:
    assert digest(run.manifest) in page
    assert f"robusteval {run.manifest.robusteval}, python 3.11.7" in page


def test_radii_image_by_image(run: Run, page: str) -> None:
    table = radii_by_image(Results(run)).set_index("image_id")
    assert table.index.tolist() == IDS
    assert table["L-bound (estimate), L2"].tolist() == L_BOUND
    smoothed = table["Randomized smoothing, sigma 0.25 (confidence), L2"].tolist()
    # The last image is misclassified, the fourth abstained.
    assert smoothed == [*SMOOTHING[:-1], 0.0]
    stored = pd.read_csv(run.path / "tables" / "certification.csv").set_index("image_id")
    pd.testing.assert_frame_equal(stored, table, check_dtype=False)
    assert "0.2512" in page
    assert "0.2513" not in page


def test_a_misclassified_image_has_no_radius_that_could_be_more(run: Run, tmp_path: Path) -> None:
    """Radius 0 of a correct image is undecided; a misclassified one reads as that, whatever the certificate."""
    wrong = wrong_by_image(Results(run)).to_numpy()
    assert not wrong[:-1].any()
    assert wrong[-1].all()
    bound = FakeCertificate("l-bound-l2", [0.6, 0.0, 0.0])
    own = build_paper_run(tmp_path, "mine", [True, True, False], [], budgets={"l2": [0.5]}, certificates=[bound])
    text = write_certification(own).read_text()
    shown = json.loads(re.search(r'id="image-data">(.*?)</script>', text, re.DOTALL)[1])  # type: ignore[index]
    assert [row[-1][0] for row in shown["rows"]] == ["0.6000", "0.0000", "wrong class"]


def test_certified_accuracy_rounds_down(run: Run, tmp_path: Path) -> None:
    bound = FakeCertificate("l-bound-l2", [0.6, 0.6, 0.1])
    thirds = build_paper_run(tmp_path, "mine", [True] * 3, [], budgets={"l2": [0.5]}, certificates=[bound])
    assert [row[4] for row in share_grid(covered(Results(thirds))).rows] == ["66.6 %"]
    rows = {(row[0], row[3]): row[4] for row in share_grid(covered(Results(run))).rows}
    assert rows["L-bound (estimate), L2", "L2 0.5"] == "37.5 %"
    assert rows["Randomized smoothing, sigma 0.25 (confidence), L2", "L2 0.5"] == "62.5 %"


def test_names_stay_text(page: str) -> None:
    assert EVIL not in page
    assert html.escape(EVIL) in page or "\\u003cscript\\u003e" in page


def test_a_run_without_certificates_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="expected a run with a certificate"):
        write_certification(build_run(tmp_path, certificates=False))


def test_a_protocol_keeps_its_certificates_alone() -> None:
    quick = read_protocol("quick")
    kept = certificates_only(quick)
    assert (kept.certificates, kept.attacks, kept.metrics, kept.calibration) == (quick.certificates, (), (), None)
    assert kept.name == "quick, certificates only"
    assert certificates_only(read_protocol("certify")).name == "certify"
    bare = parse_protocol({"metrics": [{"method": "noise"}]}, "mine.toml")
    with pytest.raises(UserError, match="expected a certificate in the protocol mine"):
        certificates_only(bare)


def test_the_command(tmp_path: Path, demo_folder: Path) -> None:
    protocol = tmp_path / "small.toml"
    protocol.write_text('[budgets]\nlinf = ["2/255"]\n[[certificates]]\nmethod = "ibp"\nnorm = "linf"\n')
    command = [
        sys.executable,
        "-m",
        "robusteval",
        "certify",
        str(demo_folder / "digits-standard.safetensors"),
        "--arch",
        "digits-cnn",
        "--data",
        "digits",
    ]
    command += ["--limit", "20", "--protocol", str(protocol), "--out", str(tmp_path / "run")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert re.search(r"Certification: .*certification\.html", done.stdout)
    text = (tmp_path / "run" / "certification.html").read_text()
    assert "mathematical proof" in text
    assert Run.open(tmp_path / "run").manifest.of(AttackRecord) == ()
    assert here("verify", tmp_path / "run", "--out", tmp_path / "filed").returncode == 0
    sentence = read_verification(tmp_path / "filed" / "verification.json").sentence
    assert sentence in (tmp_path / "filed" / "certification.html").read_text()
    assert "Not verified yet" in (tmp_path / "run" / "certification.html").read_text()


def test_it_opens_in_a_browser(run: Run, page: str, browser: Any) -> None:
    visit = Visit(browser, run.path / "certification.html")
    assert visit.column("Name") == IDS
    visit.sort("L-bound (estimate), L2")
    wrong, *ascending = visit.settles("L-bound (estimate), L2", "wrong class")
    assert wrong == "wrong class"
    assert [float(x) for x in ascending] == sorted(map(float, ascending))
    assert visit.said == []
    assert not [u for u in visit.asked if not u.startswith(("file:", "data:", "blob:"))]
    visit.tab.set_viewport_size({"width": 390, "height": 844})
    assert visit.tab.evaluate("document.documentElement.scrollWidth") <= 390
