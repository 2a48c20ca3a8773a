"""A method says the same of an image, called on plain tensors or by an audit."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import robusteval as rv
from robusteval.models.classifier import Classifier
from robusteval.results.run import Run

PROTOCOL = """
[budgets]
linf = [0.05]
[[attacks]]
method = "pgd"
norm = "linf"
steps = 5
[[attacks]]
method = "deepfool"
norm = "l2"
[[certificates]]
method = "crown"
norm = "linf"
[[certificates]]
method = "smoothing"
n0 = 10
n = 50
[[certificates]]
method = "l-bound"
norm = "l2"
batches = 5
[[metrics]]
method = "noise"
sigmas = [0.1]
samples = 5
[[metrics]]
method = "deception"
witnesses = "pgd-linf"
"""


@pytest.fixture(scope="module")
def given(demo_folder: Path) -> tuple[Classifier, rv.Images]:
    images = rv.read_images("digits", 12)
    model = rv.open_checkpoint(demo_folder / "digits-standard.safetensors", "digits-cnn", input_shape=images.shape)
    labels = images.labels.clone()
    labels[-1] = (labels[-1] + 1) % 10
    return model, replace(images, labels=labels)


@pytest.fixture(scope="module")
def run(given: tuple[Classifier, rv.Images], tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("agree")
    (folder / "p.toml").write_text(PROTOCOL)
    model, images = given
    arrays = (images.pixels, images.labels)
    return rv.audit(model, arrays, str(folder / "p.toml"), folder / "run", batch_size=12, device="cpu")


@pytest.mark.parametrize(("attack", "budget"), [(rv.PGD(norm="linf", steps=5), 0.05), (rv.DeepFool(norm="l2"), None)])
def test_attacks(attack: rv.Attack, budget: float | None, given: tuple[Classifier, rv.Images], run: Run) -> None:
    model, images = given
    found = attack(model, images.pixels, images.labels, budget)
    assert int(found.success.sum()) > 1
    told = rv.Results(run).distances(attack.norm, attack.label)
    attacked = run.table("images")["correct"].to_numpy()
    assert attacked.tolist() == [True] * 11 + [False]
    np.testing.assert_allclose(found.distances[attack.norm].numpy()[attacked], told[attacked], rtol=1e-5)


@pytest.mark.parametrize(
    "certificate", [rv.CROWN(norm="linf"), rv.Smoothing(n0=10, n=50), rv.LBound(norm="l2", batches=5)]
)
def test_certificates(certificate: rv.Certificate, given: tuple[Classifier, rv.Images], run: Run) -> None:
    model, images = given
    found = certificate(model, images.pixels, images.labels)
    rows = rv.Results(run).rows("certificates", certificate.label)
    assert (found.radius > 0).any()
    np.testing.assert_allclose(found.radius, rows["radius"], rtol=1e-5)
    assert found.predicted.tolist() == rows["predicted"].tolist()
    assert found.abstained.tolist() == rows["abstained"].tolist()


def test_metrics_of_images(given: tuple[Classifier, rv.Images], run: Run) -> None:
    model, images = given
    metric = rv.NoiseRobustness(sigmas=(0.1,), samples=5)
    found = metric(model, images.pixels, images.labels)
    rows = rv.Results(run).rows("measurements", metric.label)
    for (quantity, at), values in found.measurements.items():
        told = rows[(rows["quantity"] == quantity) & (rows["at"] == at)]["value"]
        np.testing.assert_allclose(values, told, rtol=1e-4, atol=1e-6)


def test_metrics_of_adversarial_examples(given: tuple[Classifier, rv.Images], run: Run) -> None:
    """The examples of an attack hold the image itself where it failed; nothing is measured there."""
    model, images = given
    attack = rv.PGD(norm="linf", steps=5)(model, images.pixels, images.labels, 0.05)
    metric = rv.Deception(witnesses="pgd-linf")
    found = metric(model, images.pixels, images.labels, attack.examples)
    broken = attack.success & (attack.distances["linf"] > 0)
    assert 0 < int(broken.sum()) < 11
    rows = rv.Results(run).rows("measurements", metric.label)
    for (quantity, _), values in found.measurements.items():
        assert torch.equal(~values.isnan(), broken)
        told = rows[rows["quantity"] == quantity].set_index("image_id")["value"].reindex(run.bounds()["image_id"])
        np.testing.assert_allclose(values, told, rtol=1e-4)
