"""Images that are decided at a budget, proven or broken: CROWN alone, and branch and bound.

    python benchmarks/decided.py MNIST CIFAR NETWORKS [--images 20] [--domains 2000] [--only mnist-256x2]

NETWORKS is the folder that decided_networks.py wrote. For each network and budget, of the first correctly classified
held-out images: how many CROWN alone proves, PGD alone breaks, and branch and bound proves and breaks; and
processor seconds an image, in the mean and of the slowest.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from decided_networks import RECIPES, data, opened

from robusteval.attacks.pgd import PGD
from robusteval.certify.branching.beta_crown import BetaCROWN
from robusteval.certify.propagation.crown import CROWN
from robusteval.core.images import Images
from robusteval.core.norms import Norm
from robusteval.models.classifier import Classifier


def line(classifier: Classifier, images: Images, budget: float, domains: int) -> str:
    crown = CROWN(norm=Norm.LINF, at=(budget,))(classifier, images.pixels, images.labels).radius >= budget
    pgd = PGD(norm=Norm.LINF, steps=40, restarts=3)(classifier, images.pixels, images.labels, budget).success
    certificate = BetaCROWN(norm=Norm.LINF, at=(budget,), domains=domains)
    proven, broken, seconds = 0, 0, []
    for i in range(len(images)):
        start = time.process_time()
        found = certificate(classifier, images.pixels[i : i + 1], images.labels[i : i + 1])
        seconds.append(time.process_time() - start)
        proven += int(found.radius[0] >= budget)
        broken += int(found.measurements["witness_distance", 0.0][0] <= budget)
    decided = 100 * (proven + broken) / len(images)
    return (
        f"{budget:.4f}: {len(images)} images, CROWN proves {int(crown.sum())}, PGD breaks {int(pgd.sum())}; branch and "
        f"bound proves {proven}, breaks {broken}: {decided:.0f} % decided; processor seconds an "
        f"image {sum(seconds) / len(seconds):.1f}, at most {max(seconds):.1f}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("mnist")
    parser.add_argument("cifar")
    parser.add_argument("networks", type=Path)
    parser.add_argument("--images", type=int, default=20)
    parser.add_argument("--domains", type=int, default=2000)
    parser.add_argument("--only", choices=RECIPES)
    options = parser.parse_args()
    for name, recipe in RECIPES.items():
        if options.only in (None, name):
            _, held_out = data(options.mnist, options.cifar, recipe)
            classifier = opened(name, options.networks / f"{name}.safetensors", held_out.shape)
            right = classifier.predict(held_out.pixels).argmax(1) == held_out.labels
            images = held_out.select(right.nonzero()[: options.images, 0])
            for budget in recipe.budgets:
                print(f"{name} {line(classifier, images, budget, options.domains)}", flush=True)


if __name__ == "__main__":
    main()
