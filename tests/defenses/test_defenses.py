"""Training objectives, the training loop and its command, and the demo's checkpoints."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from safetensors import safe_open
from torch import Tensor, nn
from torch.nn import functional

from attacking import run
from robusteval.attacks.pgd import PGD
from robusteval.core.errors import UserError
from robusteval.core.images import Images
from robusteval.core.norms import Norm
from robusteval.data import read_images
from robusteval.defenses import DEFENSES
from robusteval.defenses.adversarial import PGDTraining
from robusteval.defenses.base import Defense
from robusteval.defenses.standard import Standard
from robusteval.defenses.train import TrainingSettings, make_defense, save_weights, train
from robusteval.models.architectures import build_network
from robusteval.models.checkpoints import open_checkpoint
from robusteval.models.classifier import Classifier

DEMO = ("digits-standard", "digits-pgd-linf", "digits-pgd-l2")
EXAMPLES: dict[str, Defense] = {
    "standard": Standard(),
    "pgd-training": PGDTraining(norm=Norm.LINF, budget=0.1, steps=2),
}


def separable(n: int = 96) -> Images:
    """Three classes of 4x4 images, each bright in another row."""
    generator = torch.Generator().manual_seed(5)
    labels = torch.arange(n) % 3
    pixels = 0.3 * torch.rand(n, 1, 4, 4, generator=generator)
    pixels[torch.arange(n), 0, labels] += 0.6
    return Images(tuple(f"s{i:03d}" for i in range(n)), pixels, labels)


def small_network(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Flatten(), nn.Linear(16, 12), nn.ReLU(), nn.Linear(12, 3))


def weights(network: nn.Module) -> Tensor:
    return torch.cat([p.detach().flatten() for p in network.parameters()])


def test_every_defense_is_listed_and_has_an_example_here() -> None:
    assert DEFENSES.keys() == EXAMPLES.keys()
    for name, defense in DEFENSES.items():
        assert defense.name == name
        assert defense.summary


@pytest.mark.parametrize("name", list(DEFENSES))
def test_training_learns_a_separable_set(name: str) -> None:
    images, network = separable(), small_network()
    untrained = (network(images.pixels).argmax(1) == images.labels).float().mean()
    trained = train(network, images, EXAMPLES[name], TrainingSettings(epochs=40, batch_size=16, learning_rate=1e-2))
    assert untrained < 0.8
    assert not trained.training
    assert (trained(images.pixels).argmax(1) == images.labels).all()


@pytest.mark.parametrize("name", list(DEFENSES))
def test_training_depends_on_the_seed_and_on_nothing_else_random(name: str) -> None:
    def trained(seed: int, elsewhere: int) -> Tensor:
        network = small_network()
        torch.manual_seed(elsewhere)  # the global generator must not matter
        settings = TrainingSettings(epochs=2, batch_size=10, seed=seed)
        return weights(train(network, separable(), EXAMPLES[name], settings))

    assert torch.equal(trained(1, elsewhere=7), trained(1, elsewhere=8))
    assert not torch.equal(trained(1, elsewhere=7), trained(2, elsewhere=7))


def test_progress_counts_every_batch() -> None:
    calls: list[tuple[int, int]] = []
    settings = TrainingSettings(epochs=2, batch_size=40)
    train(small_network(), separable(96), Standard(), settings, lambda done, total: calls.append((done, total)))
    assert calls == [(i, 6) for i in range(1, 7)]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("norm", "budget"), [(Norm.LINF, 0.2), (Norm.L2, 0.7)])
def test_pgd_training_perturbs_inside_ball_and_box_and_raises_the_loss(
    norm: Norm, budget: float, dtype: torch.dtype
) -> None:
    images = separable()
    network = train(small_network(), images, Standard(), TrainingSettings(epochs=10, learning_rate=1e-2)).to(dtype)
    pixels, before = images.pixels.to(dtype), weights(network)
    network.zero_grad()
    defense = PGDTraining(norm=norm, budget=budget)
    found = defense.perturbed(network, pixels, images.labels, torch.Generator().manual_seed(0))
    assert found.dtype == dtype
    assert not found.requires_grad
    assert found.min() >= 0
    assert found.max() <= 1
    sizes = norm.size(found - pixels)
    assert (sizes <= budget * (1 + 1e-6)).all()
    assert sizes.max() > 0.9 * budget, "the ball is used"
    assert torch.equal(weights(network), before)
    assert all(p.grad is None for p in network.parameters()), "the inner steps leave no gradient in the weights"
    # With steps of no length only the random start is left; the climb must beat it on nearly every image.
    noise = defense.model_copy(update={"step": 1e-12}).perturbed(
        network, pixels, images.labels, torch.Generator().manual_seed(0)
    )
    climbed, idle = (functional.cross_entropy(network(x), images.labels, reduction="none") for x in (found, noise))
    assert (climbed > idle).float().mean() > 0.95


def test_pgd_training_minimises_the_loss_of_its_examples() -> None:
    images, network, defense = separable(), small_network(), EXAMPLES["pgd-training"]
    assert isinstance(defense, PGDTraining)
    loss = defense.loss(network, images.pixels, images.labels, torch.Generator().manual_seed(3))
    found = defense.perturbed(network, images.pixels, images.labels, torch.Generator().manual_seed(3))
    expected = functional.cross_entropy(network(found), images.labels)
    assert loss.shape == ()
    torch.testing.assert_close(loss, expected)
    assert loss > Standard().loss(network, images.pixels, images.labels, torch.Generator())


@pytest.mark.parametrize(
    "settings", [{"budget": 0.0}, {"budget": 0.1, "norm": "l1"}, {"budget": 0.1, "steps": 0}, {"budgets": 0.1}, {}]
)
def test_settings_out_of_range_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        PGDTraining(**settings)


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("pgd-trainin", {}, "did you mean 'pgd-training'"),
        ("pgd-training", {}, "expected --budget"),
        ("pgd-training", {"budget": -1.0}, "greater than 0, got -1.0 for --budget"),
        ("standard", {"norm": "l2"}, "--defense standard: expected a known setting, got --norm"),
    ],
)
def test_a_wrong_defense_is_one_line(name: str, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as caught:
        make_defense(name, **settings)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_trained_network_is_opened_again_as_it_was(tmp_path: Path) -> None:
    images = read_images("digits:train", 64)
    torch.manual_seed(0)
    network = train(build_network("digits-cnn"), images, Standard(), TrainingSettings(epochs=1))
    save_weights(network, tmp_path / "new" / "net.safetensors", {"command": "test"})
    classifier = open_checkpoint(tmp_path / "new" / "net.safetensors", "digits-cnn", input_shape=images.shape)
    with torch.no_grad():
        torch.testing.assert_close(classifier.predict(images.pixels), network(images.pixels))


def run_command(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "robusteval.defenses.train", *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


def test_the_command_trains_and_writes_a_file_that_says_how(tmp_path: Path) -> None:
    out = tmp_path / "net.safetensors"
    arguments = ["--defense", "pgd-training", "--norm", "l2", "--budget", "0.5", "--epochs", "1", "--limit", "64"]
    done = run_command("--out", str(out), *arguments)
    assert done.returncode == 0, done.stderr
    classifier = open_checkpoint(out, "digits-cnn", input_shape=(1, 8, 8))
    assert classifier.num_classes == 10
    with safe_open(out, "pt") as file:
        metadata = file.metadata()
    assert " ".join(arguments) in metadata["command"]
    assert (metadata["arch"], metadata["data"]) == ("digits-cnn", "digits:train")


def test_the_command_refuses_in_one_line_with_exit_code_2(tmp_path: Path) -> None:
    done = run_command("--out", str(tmp_path / "net.safetensors"), "--defense", "pgd-training", "--budget", "-1")
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert len(done.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "net.safetensors").exists()


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
