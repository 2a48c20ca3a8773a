"""`quick`, the protocol of whoever names none: it answers what the headline asks, at a small cost."""

from __future__ import annotations

from pathlib import Path

import pytest

from robusteval import Run, open_checkpoint
from robusteval.analysis.headline import headline
from robusteval.analysis.summary import summarise
from robusteval.auditing.session import run_audit
from robusteval.core.images import Images

FEW = 4


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, digits: Images, demo_folder: Path) -> Run:
    first, other = (
        open_checkpoint(str(demo_folder / f"digits-{name}.safetensors"), "digits-cnn", input_shape=digits.shape)
        for name in ("pgd-linf", "standard")
    )
    return run_audit(first, digits.first(FEW), out=tmp_path_factory.mktemp("quick") / "run", sources=[other])


def test_it_runs_whole(run: Run) -> None:
    assert run.manifest.protocol.name == "quick"
    assert {stage.status for stage in run.manifest.stages} == {"done"}


def test_it_answers_the_headline(run: Run) -> None:
    """At each of two budgets a norm, a distance a norm, a proof, a confidence bound, a bracket; and whether the attacks
    can be trusted."""
    told = [(line.quantity.split(",")[0], line.at) for line in headline(run)]
    for norm, symbol in (("linf", "Linf"), ("l2", "L2")):
        at = [r.budget for r in summarise(run).robust if r.norm == norm]
        assert len(at) == 2
        assert ("Median distance", symbol) in told
    assert {"proof", "confidence"} <= summarise(run).guarantees
    assert "Median gap" in {quantity for quantity, _ in told}
    assert "gradient-masking" in {stage.method for stage in run.manifest.stages if hasattr(stage, "method")}


def test_it_asks_little_of_the_model(run: Run) -> None:
    """Passes an image, forward or back, of an attack, a metric or a proof; smoothing has its own number of samples."""
    asked = {s.name: (s.cost.forwards + s.cost.backwards) / FEW for s in run.manifest.stages}
    assert sum(passes for name, passes in asked.items() if name != "smoothing-l2") < 2500
    assert asked["smoothing-l2"] <= 1100
