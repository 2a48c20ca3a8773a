"""A protocol with `top = k`: an image is right while its label is among the k best classes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from metric_cases import F64
from oracles import affine, random_images
from robusteval import Run, UserError, open_checkpoint, read_images, run_audit, verify
from robusteval.attacks.deepfool import DeepFool
from robusteval.auditing.evidence import closest_witnesses
from robusteval.auditing.protocol import parse_protocol
from robusteval.models.top_k import TopK, top_k
from robusteval.reports import write_report
from robusteval.results.run import witness_key

ATTACKS = [
    {"method": "pgd", "norm": "linf", "budgets": [0.1, 0.3, 0.6], "steps": 20},
    {"method": "pgd", "norm": "linf", "budgets": [0.3, 0.6], "every_budget": True, "steps": 5, "name": "alone"},
    {"method": "deepfool", "norm": "l2"},
    {"method": "foolbox-ddn", "norm": "l2", "steps": 20},
]
COUNT = 12
CERTIFICATE = {"method": "crown", "norm": "linf"}


@pytest.mark.parametrize("k", [1, 2, 3, 6])
def test_the_class_is_the_label_where_it_is_in_the_top_k(k: int) -> None:
    logits = torch.randn(200, 7, generator=torch.Generator().manual_seed(1), dtype=F64)
    for label in (0, 4, 6):
        judged = TopK(torch.nn.Identity(), k, label)(logits)
        inside = (logits.topk(k, dim=1).indices == label).any(1)
        assert 0 < inside.sum() < 200
        assert torch.equal(judged.argmax(1) == label, inside)
        # What is to be overtaken is the k-th other class; the others and the label keep their logits.
        others = torch.cat([logits[:, :label], logits[:, label + 1 :]], dim=1)
        rivals = torch.cat([judged[:, :label], judged[:, label + 1 :]], dim=1)
        torch.testing.assert_close(rivals.amax(1), others.topk(k, dim=1).values[:, -1])
        assert torch.equal(judged[:, label], logits[:, label])


def test_attacks_find_the_distance_to_the_top_k_of_an_affine_model() -> None:
    """The label leaves the top 2 where two other classes pass it: no closer than the second nearest of their planes."""
    classifier, weight, _ = affine(2, classes=4)
    images = random_images(2, 40, classifier)
    label = int(classifier.predict(images.pixels).argmax(1).mode().values)
    images = images.select((classifier.predict(images.pixels).argmax(1) == label).nonzero()[:, 0])
    images = type(images)(images.ids, images.pixels, torch.full_like(images.labels, label))
    top_2 = DeepFool(norm="l2")(top_k(classifier, 2, label), images.pixels, images.labels)
    logits = classifier.predict(images.pixels)
    w = torch.as_tensor(weight).to(logits)
    others = [j for j in range(4) if j != label]
    exact = torch.stack(
        [(logits[:, label] - logits[:, j]) / (w[label] - w[j]).flatten().norm() for j in others], dim=1
    ).sort(dim=1)
    found = top_2.success
    assert found.any()
    far = (top_2.examples - images.pixels).flatten(1).norm(dim=1)
    # Two have to pass: at least as far as the second nearest of the planes.
    assert (far[found] >= exact.values[found, 1] * (1 - 1e-6)).all()
    moved = classifier.predict(top_2.examples[found])
    assert (moved.topk(2, dim=1).indices != label).all()


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory, demo_folder: Path) -> dict[int, Run]:
    images = read_images("digits", COUNT)
    model = open_checkpoint(str(demo_folder / "digits-standard.safetensors"), "digits-cnn", input_shape=images.shape)
    found = {}
    for k in (1, 3):
        data = {"attacks": ATTACKS, "certificates": [CERTIFICATE], "budgets": {"linf": [0.3]}, "top": k}
        out = tmp_path_factory.mktemp("top") / str(k)
        found[k] = run_audit(model, images, parse_protocol(data, "test"), out, batch_size=COUNT // 2)
    return found


def test_every_witness_leaves_the_top_k_and_none_is_nearer_than_in_the_top_1(
    runs: dict[int, Run], demo_folder: Path
) -> None:
    images = read_images("digits", COUNT)
    model = open_checkpoint(str(demo_folder / "digits-standard.safetensors"), "digits-cnn", input_shape=images.shape)
    clean = model.predict(images.pixels).topk(3, dim=1).indices
    inside = dict(zip(images.ids, (clean == images.labels[:, None]).any(1).tolist(), strict=True))
    rows = runs[3].table("images")
    assert dict(zip(rows["image_id"], rows["correct"], strict=True)) == inside
    assert ((rows["predicted"] == rows["label"]) == rows["correct"]).all()
    witnesses = runs[3].table("witnesses")
    for stage in ("pgd-linf", "alone", "deepfool-l2", "foolbox-ddn-l2"):
        kept = closest_witnesses(witnesses[witnesses["method"] == stage], runs[3].arrays(stage), images)
        found = kept.isfinite().flatten(1).all(1)
        assert found.sum() > COUNT / 2
        best = model.predict(kept[found]).topk(3, dim=1).indices
        assert (best != images.labels[found, None]).all()
    for norm in ("l2", "linf"):
        one, three = (runs[k].bounds().set_index("image_id")[f"upper_{norm}"] for k in (1, 3))
        assert np.isfinite(three).mean() > 0.9
        assert float(three[np.isfinite(three)].mean()) > 1.2 * float(one.mean())


def test_rows_stand_as_in_any_run_and_every_claim_is_verified(runs: dict[int, Run], demo_folder: Path) -> None:
    images = read_images("digits", COUNT)
    model = open_checkpoint(str(demo_folder / "digits-standard.safetensors"), "digits-cnn", input_shape=images.shape)
    keys = ["image_id", "method", "budget"]
    assert runs[1].table("witnesses")[keys].equals(runs[3].table("witnesses")[keys])
    assert list(verify(runs[3], model)) == []
    assert runs[3].manifest.protocol.top == 3
    report = write_report(runs[3])
    for text in (report.read_text(), report.with_suffix(".md").read_text()):
        assert text.count("the top 3: an image is right while its label is among") == 2
    assert "Judged by" not in write_report(runs[1]).read_text()


def test_budgets_that_are_tried_by_themselves_stay_so(runs: dict[int, Run]) -> None:
    """Each budget has a witness of its own, as without the top k; a search keeps one an image."""
    for run in runs.values():
        rows, kept = run.table("witnesses"), run.arrays("alone")
        own = rows[(rows["method"] == "alone") & rows["success"]]
        own = own[own["image_id"].map(run.table("images").set_index("image_id")["correct"])]
        assert set(own["budget"]) == {0.3, 0.6}
        assert set(kept) == set(map(witness_key, own["image_id"], own["budget"]))
        assert len(run.arrays("pgd-linf")) < len(kept)


@pytest.mark.parametrize("top", [0, -1, True, "5", 2.5])
def test_top_is_a_whole_number(top: object) -> None:
    with pytest.raises(UserError, match="expected top as a whole number of at least 1 in test"):
        parse_protocol({"attacks": ATTACKS, "top": top}, "test")


def test_top_is_below_the_number_of_classes(tmp_path: Path, demo_folder: Path) -> None:
    images = read_images("digits", 4)
    model = open_checkpoint(str(demo_folder / "digits-standard.safetensors"), "digits-cnn", input_shape=images.shape)
    with pytest.raises(UserError, match=r"expected top below 10, the classes of digits-standard, got 10"):
        run_audit(model, images, parse_protocol({"attacks": ATTACKS, "top": 10}, "test"), tmp_path / "run")
