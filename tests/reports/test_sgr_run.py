"""The protocol of SGR, stage by stage, on a small model: what its figures read is what was measured."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from paper_tables import tables

from robusteval.auditing.protocol import Protocol, read_protocol
from robusteval.auditing.session import run_audit
from robusteval.auditing.verify import verify
from robusteval.data import read_images
from robusteval.models.checkpoints import open_checkpoint
from robusteval.reports import write_report
from robusteval.results.run import Run

KEPT = {"lrc-1", "lrc-8", "lrc-16", "lrc-8-0.01", "lrc-8-0.7"}


def some_of(protocol: Protocol) -> Protocol:
    attacks = tuple(e for e in protocol.attacks if e.label in KEPT)
    return replace(protocol, attacks=attacks, metrics=tuple(e for e in protocol.metrics if e.label in KEPT))


@pytest.fixture(scope="module")
def run(demo_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    model = open_checkpoint(str(demo_folder / "digits-standard.safetensors"), "digits-cnn", input_shape=(1, 8, 8))
    out = tmp_path_factory.mktemp("sgr") / "run"
    run = run_audit(model, read_images("digits", 30), some_of(read_protocol("sgr-2019")), out)
    write_report(run)
    return run


def test_every_claim_is_computed_again(run: Run) -> None:
    claims = list(verify(run))
    assert len(claims) == 2
    assert all("that of the protocol sgr-2019 of robusteval" in claim for claim in claims), (
        "only some of its stages ran"
    )


def test_accuracy_by_strength_is_the_share_that_no_draw_fooled(run: Run) -> None:
    witnesses = run.table("witnesses").set_index(["method", "image_id"])["success"]
    shown = dict(zip(tables(run)["figure-4"].headings, tables(run)["figure-4"].rows[0], strict=True))
    for label, heading in (("lrc-8-0.01", "eps 0.01"), ("lrc-8", "eps 0.3"), ("lrc-8-0.7", "eps 0.7")):
        assert float(shown[heading]) == pytest.approx(100 * float((~witnesses[label]).mean()), abs=0.1)
    assert float(shown["eps 0.01"]) > float(shown["eps 0.7"])
    assert shown["eps 0.5"] == "-"


def test_samples_are_drawn_by_decay_length(run: Run) -> None:
    drawn = pd.read_csv(run.path / "figures" / "paper-figure-3-right.csv")
    assert list(drawn.columns) == ["zeta", "image_id", "predicted"]
    assert set(drawn["zeta"]) <= {1, 8, 16}
    assert drawn["zeta"].is_monotonic_increasing
    assert (drawn.groupby("zeta").size() <= 2).all()
    labels = run.table("images").set_index("image_id")["label"]
    assert (labels[drawn["image_id"]].to_numpy() != drawn["predicted"].to_numpy()).all()
    assert "SGR, figure 3, right" in (run.path / "report.html").read_text()
