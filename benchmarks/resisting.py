"""Networks that resist, and some that do not, for benchmarks/optimality.py: trained in minutes on two cores.

    python benchmarks/resisting.py MNIST CIFAR OUT [--threads 1]

On MNIST's 10,000 test images, 8,000 to train: a small CNN plainly, and by PGD in Linf at 0.3, L2 at 2 and L1 at 10, and
a wider one in Linf at 0.3. On the first 20,000 training images of CIFAR-10: a CNN plainly and in Linf at 8/255. The
budget grows over the first 40 % of the updates. Each is attacked by PGD-20 on images that it was not trained on. One
that is there is kept. The ResNet-18 for CIFAR-10 that comes with the package of pyautoattack needs no training.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from robusteval import read_images
from robusteval.attacks.search.ball import Ball
from robusteval.core.images import Images
from robusteval.core.norms import Norm
from train_mnist import split

BATCH, RATE, RAMP = 100, 1e-3, 0.4


def small() -> nn.Module:
    """4 layers, for images of 28 x 28."""
    convolutions = [nn.Conv2d(1, 16, 4, 2, 1), nn.ReLU(), nn.Conv2d(16, 32, 4, 2, 1), nn.ReLU()]
    return nn.Sequential(*convolutions, nn.Flatten(), nn.Linear(1568, 100), nn.ReLU(), nn.Linear(100, 10))


def wide() -> nn.Module:
    """The network of Madry et al. (2018), with a quarter of its hidden units."""
    first = [nn.Conv2d(1, 32, 5, 1, 2), nn.ReLU(), nn.MaxPool2d(2)]
    second = [nn.Conv2d(32, 64, 5, 1, 2), nn.ReLU(), nn.MaxPool2d(2)]
    return nn.Sequential(*first, *second, nn.Flatten(), nn.Linear(3136, 256), nn.ReLU(), nn.Linear(256, 10))


def colour() -> nn.Module:
    """6 layers, for images of 3 x 32 x 32."""
    first = [nn.Conv2d(3, 32, 3, 1, 1), nn.ReLU(), nn.Conv2d(32, 32, 4, 2, 1), nn.ReLU()]
    second = [nn.Conv2d(32, 64, 3, 1, 1), nn.ReLU(), nn.Conv2d(64, 64, 4, 2, 1), nn.ReLU()]
    return nn.Sequential(*first, *second, nn.Flatten(), nn.Linear(4096, 256), nn.ReLU(), nn.Linear(256, 10))


@dataclass(frozen=True)
class Kind:
    """A network and how it is trained; without a budget plainly."""

    make: Callable[[], nn.Module]
    norm: Norm = Norm.LINF
    budget: float = 0.0
    steps: int = 10
    epochs: int = 15


KINDS = {
    "mnist-plain": Kind(small, epochs=6),
    "mnist-linf": Kind(small, Norm.LINF, 0.3, epochs=30),
    "mnist-l2": Kind(small, Norm.L2, 2.0, steps=8),
    "mnist-l1": Kind(small, Norm.L1, 10.0),
    "mnist-wide-linf": Kind(wide, Norm.LINF, 0.3),
    "cifar-plain": Kind(colour, epochs=4),
    "cifar-linf": Kind(colour, Norm.LINF, 8 / 255, steps=4, epochs=5),
    "cifar-random": Kind(colour, epochs=0),
}


def attacked(network: nn.Module, images: Images, kind: Kind, budget: float, steps: int) -> Tensor:
    """PGD on cross-entropy from a random start, (N, C, H, W)."""
    ball = Ball.around(images.pixels, kind.norm, budget)
    noise = torch.randn_like(images.pixels) if kind.norm is not Norm.LINF else 2 * torch.rand_like(images.pixels) - 1
    x = ball.nearest(images.pixels + kind.norm.scale_to(noise, budget / 2))
    for _ in range(steps):
        x.requires_grad_()
        loss = functional.cross_entropy(network(x), images.labels, reduction="sum")
        (gradient,) = torch.autograd.grad(loss, x)
        x = ball.climb(x.detach(), gradient, 2.5 / steps)
    return x


def train(kind: Kind, images: Images) -> nn.Module:
    torch.manual_seed(0)
    network = kind.make()
    optimizer = torch.optim.Adam(network.parameters(), RATE)
    updates, done = max(1, kind.epochs * (len(images) // BATCH)), 0
    for _ in range(kind.epochs):
        for rows in torch.randperm(len(images)).split(BATCH)[: len(images) // BATCH]:
            batch = images.select(rows)
            budget = kind.budget * min(1.0, done / (RAMP * updates))
            x = attacked(network, batch, kind, budget, kind.steps) if budget else batch.pixels
            for group in optimizer.param_groups:
                group["lr"] = RATE * min(1.0, 2 * (1 - done / updates))
            optimizer.zero_grad()
            functional.cross_entropy(network(x), batch.labels).backward()
            optimizer.step()
            done += 1
    return network.eval()


def resnet18() -> nn.Module:
    """The network for CIFAR-10 that comes with the package of pyautoattack."""
    own = import_module("pyautoattack.examples.resnet")
    network: nn.Module = own.ResNet18()
    network.load_state_dict(torch.load(Path(str(own.__file__)).with_name("model_test.pt"), "cpu", weights_only=True))
    return network.eval()


GIVEN = {"cifar-resnet18": resnet18}


def open_network(folder: Path, name: str) -> nn.Module:
    if name in GIVEN:
        return GIVEN[name]()
    network = KINDS[name].make()
    network.load_state_dict(torch.load(folder / f"{name}.pt", weights_only=True))
    return network.eval()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("mnist", help="a folder of MNIST's IDX files")
    parser.add_argument("cifar", help="CIFAR-10 with a train split")
    parser.add_argument("out", type=Path)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    options.out.mkdir(parents=True, exist_ok=True)
    mnist, held_out = split(read_images(options.mnist))
    cifar = read_images(f"{options.cifar}:train", 21_000)
    sets = {
        "mnist": (mnist, held_out),
        "cifar": (cifar.select(torch.arange(20_000)), cifar.select(torch.arange(20_000, 21_000))),
    }
    for name, kind in KINDS.items():
        training, others = sets[name.split("-")[0]]
        start = time.perf_counter()
        if not (options.out / f"{name}.pt").exists():
            torch.save(train(kind, training).state_dict(), options.out / f"{name}.pt")
        network, some = open_network(options.out, name), others.select(torch.arange(300))
        right = (network(some.pixels).argmax(1) == some.labels).float().mean()
        survived = right
        if kind.budget:
            survived = (network(attacked(network, some, kind, kind.budget, 20)).argmax(1) == some.labels).float().mean()
        print(
            f"{name}: accuracy {right:.3f}, under PGD-20 {survived:.3f}, {time.perf_counter() - start:.0f} s",
            flush=True,
        )


if __name__ == "__main__":
    main()
