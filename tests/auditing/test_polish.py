"""Polish in an audit: it runs last, from what the others kept, and is resumed and verified as they are."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from oracles import affine, random_images
from robusteval import Run, UserError, verify
from robusteval.attacks.polish import Polish
from robusteval.auditing import session
from robusteval.auditing.plan import plan
from robusteval.auditing.protocol import parse_protocol
from robusteval.auditing.session import run_audit
from robusteval.core.images import Images
from robusteval.core.norms import Norm
from robusteval.models.classifier import Classifier
from robusteval.results.files import read_arrays, write_arrays
from robusteval.results.records import AttackRecord
from robusteval.results.tables import TABLES

POLISH = {"method": "polish", "norm": "l2", "steps": 20}
WEAK: list[dict[str, Any]] = [
    {"method": "uniform-noise", "norm": "linf", "budgets": [0.2, 0.5, 0.9], "samples": 30},
    {"method": "fgsm", "norm": "linf", "budgets": [0.1, 0.4]},
]


def audit(out: Path, attacks: Sequence[dict[str, Any]] = (POLISH, *WEAK), **more: Any) -> Run:
    model, images = network()
    data = {"name": "polished", "attacks": list(attacks)} | more.pop("data", {})
    return run_audit(model, images, parse_protocol(data, "p.toml"), out, device="cpu", **{"batch_size": 4} | more)


def network() -> tuple[Classifier, Images]:
    model, _, _ = affine(0)
    images = random_images(0, 10, model)
    labels = images.labels.clone()
    labels[3] = (labels[3] + 1) % 5
    return model, Images(images.ids, images.pixels, labels)


def closest(run: Run, norm: str) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """The distances of polish, and the smallest of all others, image by image."""
    rows = run.table("witnesses")
    own = rows["method"].str.startswith("polish")
    mine, others = (part.groupby("image_id")[norm].min().sort_index() for part in (rows[own], rows[~own]))
    assert list(mine.index) == list(others.index)
    return mine.to_numpy(), others.to_numpy()


def check_same(one: Run, other: Run) -> None:
    """The same rows, and the same images of witnesses."""
    for name in TABLES:
        assert one.table(name).equals(other.table(name)), name
    for path in sorted(one.path.rglob("*.safetensors")):
        left, right = read_arrays(path), read_arrays(other.path / path.relative_to(one.path))
        assert left.keys() == right.keys()
        assert all(np.array_equal(left[key], right[key]) for key in left), path.name


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return audit(tmp_path_factory.mktemp("polish") / "run")


def test_it_runs_last_and_improves_what_weak_attacks_found(run: Run) -> None:
    stages = [s.name for s in run.manifest.stages]
    assert stages == ["sanity", "clean", "uniform-noise-linf", "fgsm-linf", "polish-l2", "repeat"]
    record = run.manifest.stage("polish-l2")
    assert isinstance(record, AttackRecord)
    assert record.starts_from == ("uniform-noise-linf", "fgsm-linf")
    assert record.follows == "other attacks"
    mine, others = closest(run, "l2")
    assert np.array_equal(np.isinf(mine), np.isinf(others)), "an image without a witness is a failure, and no other is"
    broken = np.isfinite(others) & (others > 0)
    assert broken.sum() >= 6
    assert (mine[broken] <= others[broken]).all()
    assert (mine[broken] < 0.9 * others[broken]).mean() > 0.9
    assert mine[others == 0].tolist() == [0.0]


@pytest.mark.parametrize("norm", list(Norm))
def test_in_no_norm_is_it_farther_than_where_it_began(norm: Norm, tmp_path: Path) -> None:
    strong = {"method": "closest", "norm": norm.value, "queries": 300}
    run = audit(tmp_path / "run", [*WEAK, strong, POLISH | {"norm": norm.value, "steps": 1}])
    mine, others = closest(run, norm.value)
    assert (mine <= others).all()


def test_where_nothing_comes_closer_the_start_is_kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Even if the attack itself returns nothing at all."""
    from robusteval.attacks.base import Candidates

    monkeypatch.setattr(Polish, "improve", lambda self, classifier, images, *rest: Candidates(images.pixels.clone()))
    run = audit(tmp_path / "run")
    mine, others = closest(run, "l2")
    assert np.array_equal(mine, others)
    assert list(verify(run, network()[0], attacks=None)) == []


def test_the_batch_size_changes_nothing(run: Run, tmp_path: Path) -> None:
    other = audit(tmp_path / "run", batch_size=3)
    mine, theirs = (closest(r, "l2")[0] for r in (run, other))
    np.testing.assert_allclose(mine, theirs, rtol=1e-3)


def test_it_is_verified_and_a_changed_start_is_found(run: Run, tmp_path: Path) -> None:
    model, _ = network()
    assert list(verify(run, model, attacks=None)) == []
    other = Run.open(shutil.copytree(run.path, tmp_path / "run"))
    path = other.array_file("polish-l2", "00000")
    write_arrays(path, {key: np.clip(a + 1e-3, 0, 1) for key, a in read_arrays(path).items()})
    assert any("polish-l2" in line for line in verify(other, model))
    other = Run.open(shutil.copytree(run.path, tmp_path / "other"))
    path = other.array_file("fgsm-linf", "00001")
    write_arrays(path, {key: np.clip(a + 1e-3, 0, 1) for key, a in read_arrays(path).items()})
    assert any("fgsm-linf" in line for line in verify(other, model))


class Killed(BaseException):
    """What ends a process between two stages."""


def test_an_audit_killed_between_its_stages_ends_the_same(
    run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    whole = session.Session.run_stage

    def until(self: session.Session, stage: Any) -> None:
        if stage.name == "polish-l2":
            raise Killed
        whole(self, stage)

    monkeypatch.setattr(session.Session, "run_stage", until)
    with pytest.raises(Killed):
        audit(tmp_path / "run")
    monkeypatch.undo()
    assert not (tmp_path / "run" / "parts" / "polish-l2").exists()
    check_same(run, audit(tmp_path / "run"))


def test_a_stage_that_comes_later_is_polished_too(run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The same audit tries an attack again that an error stopped: what rested on its absence is made again, and nothing
    else."""
    from robusteval.attacks.fgsm import FGSM

    def fails(*arguments: Any) -> Any:
        raise ValueError("stopped")

    monkeypatch.setattr(FGSM, "run", fails)
    model, _ = network()
    first = audit(tmp_path / "run")
    assert [s.name for s in first.manifest.failed] == ["fgsm-linf"]
    assert list(verify(first, model, attacks=None)) == []
    monkeypatch.undo()
    kept = first.part("uniform-noise-linf", "00000").stat().st_mtime_ns
    again = audit(tmp_path / "run")
    assert again.part("uniform-noise-linf", "00000").stat().st_mtime_ns == kept
    check_same(run, again)
    assert list(verify(again, model, attacks=None)) == []


def test_with_top_k_with_a_target_and_at_every_budget(tmp_path: Path) -> None:
    model, _ = network()
    every = [WEAK[0], WEAK[1] | {"every_budget": True}, POLISH]
    for name, data in (("top", {"top": 2}), ("target", {"target": 1}), ("every", {})):
        run = audit(tmp_path / name, every, data=data)
        mine, others = closest(run, "l2")
        assert (mine <= others).all()
        assert (mine < others).any()
        assert list(verify(run, model, attacks=None)) == [], name


def test_what_it_needs() -> None:
    with pytest.raises(UserError, match=r"expected another attack in p\.toml for 'polish-l2' to start from, got none"):
        parse_protocol({"attacks": [POLISH]}, "p.toml")
    with pytest.raises(UserError, match="expected 'budgets' only for fixed-budget attacks"):
        parse_protocol({"attacks": [POLISH | {"budgets": [1.0]}, *WEAK]}, "p.toml")
    model, images = network()
    x, y = images.pixels, images.labels
    with pytest.raises(UserError, match="for polish to start from, got none; give starts="):
        Polish(norm=Norm.L2)(model, x, y)
    with pytest.raises(UserError, match=r"expected starts of shape \(10, 1, 8, 8\), got \(1, 8, 8\)"):
        Polish(norm=Norm.L2)(model, x, y, starts=x[0])
    found = Polish(norm=Norm.L2)(model, x, y, starts=torch.full_like(x, torch.nan))
    assert int(found.success.sum()) == 1, "the misclassified image alone"
    assert found.cost.forwards.sum() == 0


def test_it_cannot_run_where_no_other_attack_could(tmp_path: Path) -> None:
    run = audit(tmp_path / "run", [{"method": "transfer", "norm": "linf", "budgets": [0.1]}, POLISH])
    stages = {s.name: s for s in run.manifest.stages}
    assert stages["polish-l2"].status == "unavailable"
    assert "expected witnesses of another attack to start from" in stages["polish-l2"].reason
    assert list(verify(run, network()[0])) == []


def test_several_polish_the_same_starts() -> None:
    protocol = parse_protocol({"attacks": [POLISH, POLISH | {"norm": "l1"}, *WEAK]}, "p.toml")
    records = {s.name: s.record() for s in plan(protocol)}
    assert records["polish-l1"].starts_from == records["polish-l2"].starts_from  # type: ignore[attr-defined]
