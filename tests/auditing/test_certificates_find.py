"""Adversarial examples that a certificate meets: judged, kept, and where an attack that improves others' begins."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from oracles import affine, affine_distances, random_images
from robusteval import Run, verify
from robusteval.auditing.plan import plan
from robusteval.auditing.protocol import parse_protocol, read_protocol
from robusteval.auditing.session import run_audit
from robusteval.core.errors import RefutedError
from robusteval.core.images import Images
from robusteval.core.norms import Norm
from robusteval.models.classifier import Classifier
from robusteval.results.files import read_arrays, write_arrays
from robusteval.results.records import AttackRecord
from robusteval.results.run import witness_key

MEETS = """
from dataclasses import replace
import torch
from robusteval.certify.propagation.crown import CROWN

class Meets(CROWN):
    name = "meets"
    finds = True

    def radii(self, classifier, images, state, streams):
        # Mirrored images, misclassified or not, and none of the first.
        found = 1 - images.pixels
        found[[image_id == "i000" for image_id in images.ids]] = torch.nan
        return replace(super().radii(classifier, images, state, streams), witnesses=found)
"""
LIES = """
class Lies(Meets):
    name = "lies"

    def tried(self, classifier, images, state, streams):
        found = self.radii(classifier, images, state, streams)
        return replace(found, radius=torch.full_like(found.radius, 0.5))
"""
PROTOCOL = """
{top}
[[attacks]]
method = "uniform-noise"
norm = "linf"
budgets = [0.0001]
samples = 1
[[attacks]]
method = "polish"
norm = "linf"
[[certificates]]
method = "lipschitz"
norm = "linf"
[[certificates]]
method = "meets.py:Meets"
norm = "linf"
"""
N = 8


def network() -> tuple[Classifier, Images]:
    model, _, _ = affine(0)
    images = random_images(0, N, model)
    labels = images.labels.clone()
    labels[3] = (labels[3] + 1) % 5
    return model, Images(images.ids, images.pixels, labels)


def audit(folder: Path, **more: Any) -> Run:
    return run_audit(*network(), str(folder / "p.toml"), folder / "run", device="cpu", **{"batch_size": 3} | more)


def written(folder: Path, top: str = "") -> Path:
    (folder / "meets.py").write_text(MEETS)
    (folder / "p.toml").write_text(PROTOCOL.format(top=top))
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return written(tmp_path_factory.mktemp("meets"))


@pytest.fixture(scope="module")
def run(folder: Path) -> Run:
    return audit(folder)


def kept(run: Run) -> dict[str, Any]:
    return {key: a for path in run.array_files("meets-linf") for key, a in read_arrays(path).items()}


def test_what_the_judge_takes_is_kept_and_polished(run: Run) -> None:
    names = [stage.name for stage in run.manifest.stages]
    assert names == ["sanity", "clean", "uniform-noise-linf", "meets-linf", "polish-linf", "lipschitz-linf", "repeat"]
    record = run.manifest.stage("polish-linf")
    assert isinstance(record, AttackRecord)
    assert record.starts_from == ("uniform-noise-linf", "meets-linf")
    model, images = network()
    right = model.predict(images.pixels).argmax(1) == images.labels
    fooled = right & (model.predict(1 - images.pixels).argmax(1) != images.labels)
    fooled[0] = False
    expected = {witness_key(image_id, np.nan) for image_id, hit in zip(images.ids, fooled.tolist(), strict=True) if hit}
    assert set(kept(run)) == expected
    assert len(expected) >= N // 2
    rows = run.table("witnesses")
    polished = rows[(rows["method"] == "polish-linf") & rows["success"]]
    assert set(polished["image_id"]) == {key.partition("/")[2] for key in expected} | {images.ids[3]}


def test_they_bound_the_distance_from_above(run: Run) -> None:
    """Closer than where the certificate met them, and never closer than the exact distance."""
    _, weight, bias = affine(0)
    _, images = network()
    bounds = run.bounds().set_index("image_id")
    far = dict(zip(images.ids, affine_distances(weight, bias, images, Norm.LINF), strict=True))
    pixels = dict(zip(images.ids, images.pixels.numpy(), strict=True))
    found = {key.partition("/")[2]: array for key, array in kept(run).items()}
    met = list(found)
    began = {image_id: np.abs(array - pixels[image_id]).max() for image_id, array in found.items()}
    assert (bounds.loc[met, "upper_linf"] < [began[i] / 2 for i in met]).all()
    assert (bounds.loc[met, "upper_linf"] >= [far[i] * (1 - 1e-6) for i in met]).all()
    assert (bounds.loc[met, "upper_linf_method"] == "polish-linf").all()


def test_it_is_resumed_and_verified(run: Run, folder: Path, tmp_path: Path) -> None:
    trusted = [folder / "meets.py"]
    assert list(verify(run, network()[0], trusted=trusted, attacks=None)) == []
    again = written(tmp_path)
    shutil.copytree(run.path, again / "run")
    lost = next(iter(Run.open(again / "run").array_files("meets-linf")))
    lost.unlink()
    assert kept(audit(again)).keys() == kept(run).keys()
    assert lost.exists()


def test_a_stored_witness_that_is_none_is_named(run: Run, folder: Path, tmp_path: Path) -> None:
    forged = Run.open(shutil.copytree(run.path, tmp_path / "run"))
    path = next(p for p in forged.array_files("meets-linf") if read_arrays(p))
    arrays = read_arrays(path)
    name = sorted(arrays)[0]
    _, images = network()
    clean = images.pixels[images.ids.index(name.partition("/")[2])].numpy()
    write_arrays(path, {**arrays, name: clean})
    lines = list(verify(forged, network()[0], trusted=[folder / "meets.py"]))
    assert any(f"{path.name}: image {name} is none of the stage" in line for line in lines), lines


def test_of_another_question_they_are_no_witnesses(tmp_path: Path) -> None:
    """What is misclassified may still be among the top two."""
    stages = plan(read_protocol(str(written(tmp_path, "top = 2") / "p.toml")))
    names = [stage.name for stage in stages]
    assert names.index("polish-linf") < names.index("lipschitz-linf") < names.index("meets-linf")
    (record,) = (stage.record() for stage in stages if stage.name == "polish-linf")
    assert isinstance(record, AttackRecord)
    assert record.starts_from == ("uniform-noise-linf",)


def test_the_evidence_of_none_is_kept_where_none_is_asked_for(tmp_path: Path) -> None:
    run = audit(written(tmp_path), evidence="none")
    assert kept(run) == {}
    assert np.isfinite(run.bounds()["upper_linf"]).sum() > 1


def test_a_proof_is_refuted_by_what_came_of_its_own_witnesses(tmp_path: Path) -> None:
    folder = written(tmp_path)
    (folder / "meets.py").write_text(MEETS + LIES)
    (folder / "p.toml").write_text(PROTOCOL.format(top="").replace("Meets", "Lies"))
    with pytest.raises(RefutedError, match=r"lies-linf proves linf 0\.5, the witness of polish-linf lies at 0\."):
        audit(folder)


def test_without_a_certificate_that_finds_the_order_is_as_it_was() -> None:
    data = {
        "attacks": [{"method": "polish", "norm": "l2"}, {"method": "fgsm", "norm": "linf", "budgets": [0.1]}],
        "certificates": [{"method": "crown", "norm": "linf"}],
    }
    names = [stage.name for stage in plan(parse_protocol(data, "p.toml"))]
    assert names == ["sanity", "clean", "fgsm-linf", "polish-l2", "crown-linf", "repeat"]


def test_batches_of_another_size_keep_the_same(run: Run, tmp_path: Path) -> None:
    other = audit(written(tmp_path), batch_size=N)
    assert kept(other).keys() == kept(run).keys()
    assert all(torch.equal(torch.tensor(kept(other)[key]), torch.tensor(a)) for key, a in kept(run).items())
