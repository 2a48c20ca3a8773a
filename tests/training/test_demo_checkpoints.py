"""The demo's checkpoints: small, accurate, and more robust where they were trained to be."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from attacking import run
from robusteval.attacks.pgd import PGD
from robusteval.core.images import Images
from robusteval.core.norms import Norm
from robusteval.data import read_images
from robusteval.models.checkpoints import open_checkpoint
from robusteval.models.classifier import Classifier

DEMO = ("digits-standard", "digits-pgd-linf", "digits-pgd-l2")


@pytest.fixture(scope="module")
def test_digits() -> Images:
    return read_images("digits")


def opened(folder: Path, name: str, images: Images) -> Classifier:
    return open_checkpoint(folder / f"{name}.safetensors", "digits-cnn", input_shape=images.shape)


def right(classifier: Classifier, images: Images) -> Tensor:
    return classifier.predict(images.pixels).argmax(1) == images.labels


@pytest.mark.parametrize(
    ("name", "accuracy"), [("digits-standard", 0.95), ("digits-pgd-linf", 0.93), ("digits-pgd-l2", 0.93)]
)
def test_demo_checkpoints_are_small_and_accurate(
    demo_folder: Path, test_digits: Images, name: str, accuracy: float
) -> None:
    assert (demo_folder / f"{name}.safetensors").stat().st_size < 300_000
    assert right(opened(demo_folder, name, test_digits), test_digits).double().mean() >= accuracy


def test_demo_folder_holds_these_checkpoints_and_says_how_each_was_made(demo_folder: Path) -> None:
    assert {path.stem for path in demo_folder.glob("*.safetensors")} == set(DEMO)
    readme = (demo_folder / "README.md").read_text()
    for name in DEMO:
        assert f"--out {name}.safetensors" in readme


@pytest.mark.parametrize(("norm", "budget"), [(Norm.LINF, 0.1), (Norm.L2, 0.6)])
def test_demo_pgd_training_made_the_network_more_robust(
    demo_folder: Path, test_digits: Images, norm: Norm, budget: float
) -> None:
    images = test_digits.select(torch.arange(200))

    def survivors(name: str) -> Tensor:
        classifier = opened(demo_folder, name, images)
        attacked = run(PGD(norm=norm, steps=10), classifier, images, budget)
        return (classifier.predict(attacked).argmax(1) == images.labels) & right(classifier, images)

    standard, robust = survivors("digits-standard"), survivors(f"digits-pgd-{norm.value}")
    # Paired: of the images that only one withstands, the robust one must win by three standard deviations (McNemar).
    gained, lost = int((robust & ~standard).sum()), int((standard & ~robust).sum())
    assert gained - lost > 3 * (gained + lost) ** 0.5
