"""A protocol with `target = c`: an image is right while the model does not give that class."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from commands import here
from robusteval import Run, UserError, open_checkpoint, read_images, run_audit, verify
from robusteval.auditing.evidence import closest_witnesses
from robusteval.auditing.forecast import forecast
from robusteval.auditing.plan import plan
from robusteval.auditing.protocol import parse_protocol
from robusteval.auditing.stages.every_budget import EveryBudgetStage
from robusteval.core.images import Images
from robusteval.models.classifier import Classifier
from robusteval.reports import write_report

TARGET, COUNT = 3, 20
DATA: dict[str, Any] = {
    "attacks": [
        {"method": "pgd", "norm": "linf", "budgets": [0.1, 0.3, 0.6], "steps": 20},
        {"method": "pgd", "norm": "linf", "budgets": [0.3], "every_budget": True, "steps": 5, "name": "alone"},
        {"method": "fmn", "norm": "l2", "steps": 40},
    ],
    "certificates": [{"method": "crown", "norm": "linf"}],
    "budgets": {"linf": [0.3]},
    "target": TARGET,
}


def opened(folder: Path) -> tuple[Classifier, Images]:
    images = read_images("digits", COUNT)
    return open_checkpoint(str(folder / "digits-standard.safetensors"), "digits-cnn", input_shape=images.shape), images


@pytest.fixture(scope="module")
def audited(tmp_path_factory: pytest.TempPathFactory, demo_folder: Path) -> Run:
    return run_audit(
        *opened(demo_folder), parse_protocol(DATA, "test"), tmp_path_factory.mktemp("target") / "run", batch_size=8
    )


def test_every_witness_is_of_the_target_and_its_own_images_are_left_out(audited: Run, demo_folder: Path) -> None:
    model, images = opened(demo_folder)
    kept = images.select(images.labels != TARGET)
    assert 0 < len(kept) < COUNT
    rows = audited.table("images").set_index("image_id").loc[list(kept.ids)]
    assert len(rows) == len(audited.table("images"))
    assert rows["label"].tolist() == kept.labels.tolist()
    given = (model.predict(kept.pixels).argmax(1) == TARGET).tolist()
    assert rows["correct"].tolist() == [not g for g in given]
    assert rows["predicted"].tolist() == [
        TARGET if g else label for g, label in zip(given, kept.labels.tolist(), strict=True)
    ]
    witnesses = audited.table("witnesses")
    assert set(witnesses.loc[witnesses["success"], "predicted"]) == {TARGET}
    for stage in ("pgd-linf", "alone", "fmn-l2"):
        found = closest_witnesses(witnesses[witnesses["method"] == stage], audited.arrays(stage), kept)
        some = found.isfinite().flatten(1).all(1)
        assert some.sum() > 2
        assert (model.predict(found[some]).argmax(1) == TARGET).all()


def test_every_claim_is_verified_and_the_report_says_it(audited: Run, demo_folder: Path) -> None:
    model, images = opened(demo_folder)
    assert list(verify(audited, model, data=images)) == []
    assert audited.manifest.protocol.target == TARGET
    report = write_report(audited)
    for text in (report.read_text(), report.with_suffix(".md").read_text()):
        assert "class 3 alone: an image is right while the model does not give that class" in text


def test_the_plan_counts_what_will_run(demo_folder: Path) -> None:
    model, images = opened(demo_folder)
    protocol = parse_protocol(DATA, "test")
    assert forecast(model, images, protocol, batch_size=8).images == int((images.labels != TARGET).sum())
    assert isinstance(next(s for s in plan(protocol) if s.name == "alone"), EveryBudgetStage)
    few = parse_protocol({"attacks": [{"method": "auto", "norm": "linf"}], "budgets": {"linf": [0.3]}}, "test")
    aimed = parse_protocol({**few.as_json(), "target": 3}, "test")
    one, all_of_them = (next(s for s in plan(p) if s.name == "auto-linf").passes(10, 10) for p in (aimed, few))
    assert one is not None
    assert all_of_them is not None
    assert one.backward < all_of_them.backward


@pytest.mark.parametrize("target", [-1, True, "", 2.5])
def test_a_target_is_a_number_or_a_name(target: object) -> None:
    with pytest.raises(UserError, match="expected target as the number of a class, from 0, or its name in test"):
        parse_protocol({**DATA, "target": target}, "test")
    with pytest.raises(UserError, match="expected top or target in test, got both"):
        parse_protocol({**DATA, "top": 3}, "test")


def test_a_target_is_a_class_and_leaves_images(tmp_path: Path, demo_folder: Path) -> None:
    model, images = opened(demo_folder)
    with pytest.raises(UserError, match="expected a target from 0 to 9, the classes of digits-standard, got 10"):
        run_audit(model, images, parse_protocol({**DATA, "target": 10}, "test"), tmp_path / "run")
    alike = images.select(images.labels == TARGET)
    with pytest.raises(UserError, match="expected an image of another class than the target, 3, in digits"):
        run_audit(model, alike, parse_protocol(DATA, "test"), tmp_path / "run")
    assert torch.equal(alike.labels.unique(), torch.tensor([TARGET]))


NAMES = ("zero", "one", "two", "drei", "four", "five", "six", "seven", "eight", "nine")


def test_a_target_by_the_name_that_the_data_gives_it(tmp_path: Path, demo_folder: Path) -> None:
    """The manifest holds its number: the same run as with that, and verified without the names."""
    model, images = opened(demo_folder)
    named = replace(images, class_names=NAMES)
    few = {**DATA, "attacks": DATA["attacks"][:1], "certificates": []}
    protocol = parse_protocol({**few, "target": "drei"}, "test")
    run = run_audit(model, named, protocol, tmp_path / "run", batch_size=8)
    assert run.manifest.protocol.target == TARGET
    again = run_audit(model, named, parse_protocol({**few, "target": TARGET}, "test"), tmp_path / "run", batch_size=8)
    assert again.table("witnesses").equals(run.table("witnesses"))
    assert list(verify(run, model, data=named)) == []
    assert "class 3 (drei) alone" in write_report(run).read_text()
    assert forecast(model, named, protocol, batch_size=8).images == len(run.table("images"))
    with pytest.raises(UserError, match="the 10 classes of digits-standard, by name or number, got 'dre'"):
        run_audit(model, named, parse_protocol({**few, "target": "dre"}, "test"), tmp_path / "other")


def test_a_target_by_the_name_on_the_card_and_without_any(tmp_path: Path, demo_folder: Path) -> None:
    model, images = opened(demo_folder)
    plain = replace(images, class_names=())
    protocol = parse_protocol({**DATA, "attacks": DATA["attacks"][:1], "certificates": [], "target": "drei"}, "test")
    assert model.origin is not None
    bare = replace(model, origin=replace(model.origin, class_names=()))
    with pytest.raises(UserError, match="since neither digits-standard nor its images name their classes, got 'drei'"):
        run_audit(bare, plain, protocol, tmp_path / "run")
    carded = replace(model, origin=replace(model.origin, class_names=NAMES))
    run = run_audit(carded, plain, protocol, tmp_path / "run", batch_size=8)
    assert run.manifest.protocol.target == TARGET


def test_a_target_by_name_on_the_command_line(tmp_path: Path, demo_folder: Path) -> None:
    path = tmp_path / "p.toml"
    path.write_text('target = "3"\n[budgets]\nlinf = 0.3\n[[attacks]]\nmethod = "fgsm"\nnorm = "linf"\n')
    model = ("audit", demo_folder / "digits-standard.safetensors", "--arch", "digits-cnn", "--data", "digits")
    done = here(*model, "--limit", 20, "--protocol", path, "--out", tmp_path / "run")
    assert done.returncode == 0, done.stderr
    assert Run.open(tmp_path / "run").manifest.protocol.target == 3
    path.write_text(path.read_text().replace('"3"', '"10"'))
    done = here(*model, "--limit", 20, "--protocol", path, "--out", tmp_path / "other")
    assert done.returncode == 2
    assert "by name or number, got '10'" in done.stderr
