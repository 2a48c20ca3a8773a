"""Networks of the sizes that verifiers are compared on, trained here: fully connected, a small CNN, a residual one.

    python benchmarks/decided_networks.py MNIST CIFAR OUT

MNIST is a folder of the IDX files of its 10,000 test images, of which 8,000 by a fixed seed train and the others are
kept (train_mnist.py); CIFAR a folder of parquet files with a training set, of
which 15,000 train, and a test set. The fully connected ones are
trained on clean images, the others by PGD within their budgets.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional

from robusteval import read_images
from robusteval.core.images import Images
from robusteval.models.classifier import Classifier
from robusteval.models.making import make_classifier
from train_mnist import split

BATCH = 100
PGD_STEPS = 3


def dense(layers: int) -> nn.Module:
    """Layers of 256 ReLUs on MNIST."""
    body: list[nn.Module] = [nn.Flatten()]
    for k in range(layers):
        body += [nn.Linear(256 if k else 784, 256), nn.ReLU()]
    return nn.Sequential(*body, nn.Linear(256, 10))


def small_cnn() -> nn.Module:
    """Two strided convolutions and a hidden layer of 100: 3,172 ReLUs on CIFAR-10."""
    return nn.Sequential(
        nn.Conv2d(3, 8, 4, stride=2, padding=1),
        nn.ReLU(),
        nn.Conv2d(8, 16, 4, stride=2, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(1024, 100),
        nn.ReLU(),
        nn.Linear(100, 10),
    )


class Residual(nn.Module):
    """A strided convolution, two residual blocks and a hidden layer: 3,812 ReLUs on CIFAR-10."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 4, stride=2, padding=1)
        self.first, self.second = nn.Conv2d(8, 16, 3, stride=2, padding=1), nn.Conv2d(16, 16, 3, padding=1)
        self.shortcut = nn.Conv2d(8, 16, 1, stride=2)
        self.third, self.fourth = nn.Conv2d(16, 16, 3, stride=2, padding=1), nn.Conv2d(16, 16, 3, padding=1)
        self.skip = nn.Conv2d(16, 16, 1, stride=2)
        self.hidden, self.last = nn.Linear(256, 100), nn.Linear(100, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.relu(self.stem(x))
        x = functional.relu(self.second(functional.relu(self.first(x))) + self.shortcut(x))
        x = functional.relu(self.fourth(functional.relu(self.third(x))) + self.skip(x))
        logits: Tensor = self.last(functional.relu(self.hidden(x.flatten(1))))
        return logits


@dataclass(frozen=True)
class Recipe:
    """A network, the Linf radius of its training (0 for clean images), its epochs, and the budgets asked of it."""

    make: Callable[[], nn.Module]
    radius: float
    epochs: int
    budgets: tuple[float, ...]
    of_cifar: bool


RECIPES = {
    "mnist-256x2": Recipe(lambda: dense(2), 0.0, 8, (0.02, 0.05), False),
    "mnist-256x4": Recipe(lambda: dense(4), 0.0, 8, (0.02, 0.05), False),
    "mnist-256x6": Recipe(lambda: dense(6), 0.0, 8, (0.02, 0.05), False),
    "cifar-cnn": Recipe(small_cnn, 2 / 255, 4, (2 / 255,), True),
    "cifar-residual": Recipe(Residual, 2 / 255, 4, (1 / 255,), True),
}


def train(network: nn.Module, images: Images, radius: float, epochs: int) -> None:
    """Adam with a rate that falls to zero, on clean images or on what PGD makes of them."""
    optimiser = torch.optim.Adam(network.parameters(), lr=1e-3)
    updates = epochs * (len(images) // BATCH)
    schedule = torch.optim.lr_scheduler.LinearLR(optimiser, 1.0, 0.01, updates)
    for epoch in range(epochs):
        order = torch.randperm(len(images), generator=torch.Generator().manual_seed(epoch))
        for rows in order.split(BATCH)[: len(images) // BATCH]:
            x, y = images.pixels[rows], images.labels[rows]
            if radius:
                x = climbed(network, x, y, radius)
            optimiser.zero_grad()
            functional.cross_entropy(network(x), y).backward()
            optimiser.step()
            schedule.step()


def climbed(network: nn.Module, x: Tensor, y: Tensor, radius: float) -> Tensor:
    moved = (x + radius * (2 * torch.rand_like(x) - 1)).clamp(0, 1)
    for _ in range(PGD_STEPS):
        moved.requires_grad_()
        (slope,) = torch.autograd.grad(functional.cross_entropy(network(moved), y), moved)
        moved = (moved.detach() + radius / 2 * slope.sign()).clamp(x - radius, x + radius).clamp(0, 1)
    return moved


def data(mnist: str, cifar: str, recipe: Recipe) -> tuple[Images, Images]:
    """Images to train on and held-out ones."""
    if not recipe.of_cifar:
        return split(read_images(mnist))
    return read_images(f"{cifar}:train", 15_000), read_images(f"{cifar}:test", 2000)


def opened(name: str, file: Path, shape: tuple[int, int, int]) -> Classifier:
    network = RECIPES[name].make()
    network.load_state_dict(load_file(file))
    return make_classifier(name, network.eval(), shape)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("mnist")
    parser.add_argument("cifar")
    parser.add_argument("out", type=Path)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    for name, recipe in RECIPES.items():
        file, (training, held_out) = options.out / f"{name}.safetensors", data(options.mnist, options.cifar, recipe)
        if not file.exists():
            torch.manual_seed(0)
            network = recipe.make()
            train(network, training, recipe.radius, recipe.epochs)
            save_file(network.state_dict(), file)
        classifier = opened(name, file, training.shape)
        right = classifier.predict(held_out.pixels).argmax(1) == held_out.labels
        print(f"{name}: accuracy on {len(held_out)} held-out images {right.double().mean():.4f}", flush=True)


if __name__ == "__main__":
    main()
