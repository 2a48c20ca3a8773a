"""What the model sees, in a real run: the images of classes, the grid, the most deceptive witnesses."""

from __future__ import annotations

import math
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from robusteval import Run, open_checkpoint, read_images, run_audit, verify
from robusteval.analysis.metrics.deception import most_deceptive
from robusteval.analysis.metrics.measured import measured_stages
from robusteval.analysis.metrics.targeted_grid import pairs
from robusteval.analysis.results import Results
from robusteval.core.images import Images
from robusteval.models.classifier import Classifier
from robusteval.reports import paper_tables
from robusteval.reports.chapters import activation_maximization, deception, targeted_grid
from robusteval.reports.figures.drawing import save
from robusteval.results.files import read_frame, write_frame
from run_fixture import build_paper_run

PROTOCOL = """
[budgets]
linf = [0.1, 0.3]

[[attacks]]
method = "pgd"
norm = "linf"
steps = 10

[[attacks]]
method = "deepfool"
norm = "l2"

[[metrics]]
method = "activation-maximization"
steps = 40
learning_rate = 0.1

[[metrics]]
method = "targeted-grid"
norm = "linf"
budget = "40/255"
steps = 10

[[metrics]]
method = "targeted-grid"
norm = "l2"
budget = 1.0
steps = 5
classes = 3

[[metrics]]
method = "deception"
name = "sure"
witnesses = "pgd-linf"

[[metrics]]
method = "deception"
witnesses = "deepfool-l2"
"""


COUNT = 30


MINE = (activation_maximization.CHAPTER, targeted_grid.CHAPTER, deception.CHAPTER)


def audit(demo: Path, folder: Path, images: Images, **settings: object) -> tuple[Run, Classifier]:
    (folder / "p.toml").write_text(PROTOCOL)
    model = open_checkpoint(str(demo / "digits-standard.safetensors"), "digits-cnn", input_shape=images.shape)
    return run_audit(model, images, str(folder / "p.toml"), folder / "run", **settings), model  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def audited(demo_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, Classifier]:
    return audit(demo_folder, tmp_path_factory.mktemp("seen"), read_images("digits", COUNT), batch_size=7)


def test_an_honest_run_verifies_whatever_the_batch(audited: tuple[Run, Classifier]) -> None:
    """The audit cut the ten classes into batches of seven; the check does not."""
    assert list(verify(audited[0])) == []


def test_tampered_numbers_are_named(audited: tuple[Run, Classifier], tmp_path: Path) -> None:
    copy = Run.open(shutil.copytree(audited[0].path, tmp_path / "copy"))
    tampered = []
    for stage, table in (("activation-maximization", "statistics"), ("targeted-grid-l2", "statistics"), ("sure", None)):
        path = copy.part(stage, "00000", table)
        frame = read_frame(path)
        row = int(frame["value"].notna().to_numpy().argmax())
        frame.loc[row, "value"] = 0.123
        write_frame(path, frame)
        tampered.append(f"stage {stage}, {f'{table}, ' if table else ''}row {row}")
    findings = list(verify(copy))
    for claim in tampered:
        assert any(claim in finding for finding in findings)


def test_the_report_shows_all_three_under_the_papers_names(audited: tuple[Run, Classifier], tmp_path: Path) -> None:
    run, _ = audited
    found = {plot.name: plot for chapter in MINE for plot in chapter.plots(Results(run))}
    titles = {
        "images-activation-maximization": "What the model sees in each class (SmoothKernels, figure 3)",
        "path-activation-maximization": "What the model sees in each class: the logit on the way",
        "images-targeted-grid-linf": "Targeted attacks, class by class, Linf (SmoothKernels, figure 10)",
        "images-targeted-grid-l2": "Targeted attacks, class by class, L2 (SmoothKernels, figure 10)",
        "images-sure": "Most deceptive examples: PGD, Linf (SmoothKernels, figures 2 and 38)",
        "images-deception": "Most deceptive examples: DeepFool, L2 (SmoothKernels, figures 2 and 38)",
    }
    assert {name: plot.title for name, plot in found.items()} == titles
    assert "The first 3 of 10 classes" in found["images-targeted-grid-l2"].caption
    assert "The first" not in found["images-activation-maximization"].caption
    drawn = {"images-activation-maximization": 20, "images-targeted-grid-l2": 9}
    for name, images in drawn.items():
        assert save(found[name], tmp_path).count("<image") == images
    assert found["images-activation-maximization"].data["probability"].between(0.9, 1).all()
    grids = [grid for chapter in MINE for grid in chapter.grids(Results(run))]
    assert [len(grid.rows) for grid in grids] == [10, 20, 6, 2]


def test_the_grid_of_the_report_follows_from_the_statistics(audited: tuple[Run, Classifier]) -> None:
    run, _ = audited
    big, small = measured_stages(Results(run), "targeted-grid")
    assert len(pairs(big)) == 90
    assert len(pairs(small)) == 6
    rows = run.table("statistics")
    for row in pairs(small).to_dict("records"):
        at = 10 * row["source"] + row["target"]
        own = rows[(rows["method"] == small.label) & (rows["at"] == at)].set_index("quantity")["value"]
        assert all(row[q] == own[q] for q in ("reached", "target_probability", "distance"))
        assert (row["original"], row["aim"]) == (str(row["source"]), str(row["target"]))
    lines = targeted_grid.grids(Results(run))[0].rows
    assert len(lines) == 20
    expected = int(rows[(rows["method"] == big.label) & (rows["quantity"] == "reached")]["value"].sum())
    for way in ("from", "to"):
        assert sum(int(line[1].split()[0]) for line in lines if line[0].startswith(way)) == expected


def test_the_most_deceptive_images_are_what_the_model_is_surest_of(audited: tuple[Run, Classifier]) -> None:
    run, model = audited
    images = run.table("images").set_index("image_id")
    for stage in measured_stages(Results(run), "deception"):
        arrays = deception.witnesses(stage, list(images.index))
        logits = model.predict(torch.stack([torch.tensor(p) for p in arrays.values()]))
        sure = dict(zip(arrays, logits.double().softmax(1), strict=True))
        best = most_deceptive(stage).set_index("label")
        found = {i: int(images["label"][i]) for i in arrays}
        assert set(best.index) == set(found.values())
        for label, row in best.iterrows():
            same = {i: p for i, p in sure.items() if found[i] == label}
            assert row["confidence"] == pytest.approx(max(float(p.max()) for p in same.values()), rel=1e-5)
            assert float(sure[row["image_id"]][row["wrong"]]) == pytest.approx(row["confidence"], rel=1e-5)
            assert row["wrong"] == int(sure[row["image_id"]].argmax()) != label


def test_a_model_that_is_always_wrong_leaves_the_chapters_empty(demo_folder: Path, tmp_path: Path) -> None:
    images = read_images("digits", 3)
    run, _ = audit(demo_folder, tmp_path, replace(images, labels=(images.labels + 1) % 10))
    measured = run.table("measurements")
    assert set(measured[~measured["method"].isin(["sanity", "repeat"])]["value"].isna()) <= {True}
    for chapter, plots, grids in zip(MINE, (2, 0, 0), (1, 0, 0), strict=True):
        assert (len(chapter.plots(Results(run))), len(chapter.grids(Results(run)))) == (plots, grids)


def test_the_papers_tables_have_both_appendices(tmp_path: Path) -> None:
    run = build_paper_run(
        tmp_path,
        "smoothkernel-2020",
        [True, True, True, False],
        [],
        measurements=[("deception-adef", "deceptive_confidence", 0.0, [0.5, 0.7, math.nan, math.nan])],
        statistics=[
            *(("targeted-grid", "reached", at, value) for at, value in ((1.0, 1.0), (2.0, 0.0), (3.0, 1.0))),
            *(("targeted-grid", "target_probability", at, 0.25 * at) for at in (1.0, 2.0, 3.0)),
        ],
    )
    found = {grid.name: grid for grid in paper_tables([run])}
    assert found["figure-10"].rows == [["tiny", "2 of 3", "0.500"]]
    assert found["figure-38"].headings == ["Model", "FGSM", "ADef"]
    assert found["figure-38"].rows == [["tiny", "-", "0.600"]]
