"""Budgets that are tried by themselves: rows that say so, witnesses for each, and the average over them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from oracles import affine, random_images
from robusteval.analysis.by_label import ByLabel
from robusteval.auditing.plan import plan
from robusteval.auditing.protocol import parse_protocol, read_protocol
from robusteval.auditing.session import run_audit
from robusteval.auditing.stages.every_budget import EveryBudgetStage
from robusteval.auditing.verify import verify
from robusteval.core.errors import UserError
from robusteval.core.images import Images
from robusteval.results.run import Run

GRID = (0.1, 0.2, 0.3, 0.4)
LUCKY = (0.2, 0.4)


FICKLE = f'''
"""Finds a corner of the ball at some budgets and nothing at others."""
import torch

from robusteval.attacks.base import Candidates, FixedBudgetAttack
from robusteval.core.norms import Norm, column


class Fickle(FixedBudgetAttack):
    name = "fickle"
    title = "Fickle"
    summary = "for tests"
    norms = (Norm.LINF,)

    def within(self, classifier, images, budget, streams):
        lucky = torch.stack([(budget - b).abs() < 1e-6 for b in {LUCKY}]).any(0)
        gradient, _, _ = classifier.gradient(images.pixels, lambda z: -z.gather(1, images.labels[:, None])[:, 0])
        corner = (images.pixels + column(budget, gradient) * 0.999 * gradient.sign()).clamp(0, 1)
        return Candidates(torch.where(column(lucky, corner), corner, images.pixels))
'''


@pytest.fixture(scope="module")
def images() -> Images:
    found = random_images(1, 12, affine(1)[0])
    labels = found.labels.clone()
    labels[0] = (labels[0] + 1) % 5
    return Images(found.ids, found.pixels, labels, source="test")


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("own").resolve() / "fickle.py"
    path.write_text(FICKLE)
    return path


def audited(images: Images, file: Path, out: Path, every: bool) -> Run:
    entry = {"method": f"{file}:Fickle", "name": "fickle", "norm": "linf", "budgets": GRID, "every_budget": every}
    protocol = parse_protocol({"budgets": {"linf": GRID}, "attacks": [entry]}, "p.toml", [file])
    return run_audit(affine(1)[0], images, protocol, out, batch_size=5, device="cpu")


def test_each_budget_has_its_own_answer_and_witness(images: Images, file: Path, tmp_path: Path) -> None:
    run = audited(images, file, tmp_path / "run", every=True)
    rows = run.table("witnesses").set_index(["budget", "image_id"])["success"]
    fooled = {b: rows[b].drop(images.ids[0]) for b in GRID}
    assert rows[:, images.ids[0]].all(), "the misclassified image is its own witness"
    for budget in GRID:
        assert fooled[budget].mean() > 0.7 if budget in LUCKY else not fooled[budget].any()
    kept = run.arrays("fickle")
    assert len(kept) == sum(int(found.sum()) for found in fooled.values())
    assert list(verify(run, affine(1)[0], trusted=[file])) == []


def test_the_average_counts_each_budget_by_itself(images: Images, file: Path, tmp_path: Path) -> None:
    """A search for the smallest budget would have all of 0.3 broken by what 0.2 found."""
    run = audited(images, file, tmp_path / "every", every=True)
    searched = audited(images, file, tmp_path / "search", every=False)
    rows = run.table("witnesses").set_index(["image_id", "budget"])["success"]
    areas = ByLabel(run).areas("fickle", 0.4)
    assert areas is not None
    for image_id, found in zip(run.table("images")["image_id"], areas, strict=True):
        stood = [float(image_id != images.ids[0]), *(1.0 - float(rows[image_id, b]) for b in GRID)]
        assert found == pytest.approx((stood[0] / 2 + sum(stood[1:4]) + stood[4] / 2) / 4)
    envelope = ByLabel(searched).areas("fickle", 0.4)
    assert envelope is not None
    assert areas.mean() > envelope.mean() + 0.1
    half = ByLabel(run).areas("fickle", 0.2)
    assert half is not None
    assert half.max() == pytest.approx(0.75)
    assert ByLabel(run).areas("fickle", 0.5) is None
    assert ByLabel(run).areas("nothing", 0.1) is None
    # Bounds take the closest of all.
    assert np.isfinite(ByLabel(run).distances("linf")).mean() > 0.7


def test_a_protocol_says_so() -> None:
    data = {"attacks": [{"method": "fgsm", "norm": "linf", "budgets": [0.1, 0.2], "every_budget": True}]}
    protocol = parse_protocol(data, "p.toml")
    assert isinstance(plan(protocol)[2], EveryBudgetStage)
    written = protocol.as_json()["attacks"][0]
    assert written["every_budget"] is True
    assert parse_protocol({"attacks": [written]}, "p.toml").attacks == protocol.attacks
    with pytest.raises(UserError, match="expected 'every_budget' only for fixed-budget attacks"):
        parse_protocol({"attacks": [{"method": "deepfool", "norm": "l2", "every_budget": True}]}, "p.toml")
    with pytest.raises(UserError, match=r"expected true or false for every_budget in p\.toml, got 'yes'"):
        parse_protocol({"attacks": [{"method": "fgsm", "norm": "linf", "every_budget": "yes"}]}, "p.toml")


def test_sgr_averages_over_every_level() -> None:
    entries = [e for e in read_protocol("sgr-2019").attacks if e.every_budget]
    assert [e.label for e in entries] == ["rand", "fgsm", "pgd", "t-pgd", "transfer"]
    for entry in entries:
        np.testing.assert_allclose(entry.budgets, np.arange(1, 33) / 255)
