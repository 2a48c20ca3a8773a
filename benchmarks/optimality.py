"""How close robusteval's smallest distances are to the best known ones, and whether any rival finds closer ones.

    python benchmarks/optimality.py MODELS MNIST CIFAR [--images 100] [--queries 1000 2000] [--models mnist-linf ...]
        [--norms l0 l1 l2 linf] [--alone]

MODELS is the folder that resisting.py wrote; rivals.py says what to install. The measure is AttackBench's optimality
(Cinà et al. 2025): the best known distance of an image is the smallest that any attack of the run found; the area under
an attack's curve of robust accuracy over the budget, up to the largest best distance, is compared with that of the best
distances: 1 is best. Each attack gets the same queries an image, forward and backward together, counted by one meter;
the judge decides for all. For each model and norm: every attack's median distance, optimality, failures, the share of
images where it is over 1 % closer than `closest`, queries and processor seconds; with --alone each of ours beside its
namesake. Exits with 1 if `closest` is below 0.99, or a rival is over 1 % closer on more than 2 % of the images of any.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from itertools import product
from pathlib import Path

import torch
from torch import Tensor, nn

from resisting import GIVEN, KINDS, open_network
from rivals import foolbox, rivals
from robusteval import read_images
from robusteval.attacks import ATTACKS
from robusteval.attacks.base import Attack
from robusteval.attacks.judge import judge
from robusteval.core.images import Images
from robusteval.core.norms import Norm
from robusteval.core.streams import Streams
from robusteval.models.classifier import Classifier
from robusteval.models.plain import as_classifier
from train_mnist import split

AT_ONCE = 50
ENOUGH, SHARE, CLOSER = 0.99, 0.02, 1.01
LENGTHS = {
    "ddn": ("steps",),
    "fmn": ("steps",),
    "fab": ("iterations",),
    "apgd": ("iterations",),
    "alma": ("steps",),
    "pdgd": ("steps",),
    "pdpgd": ("steps",),
    "sigma-zero": ("steps", "exchanges"),
    "deepfool": (),
}
"""Ours with a namesake, and the settings that make them longer; DeepFool stops by itself."""


@dataclass(frozen=True)
class Outcome:
    distances: Tensor
    queries: float
    seconds: float


def measured(
    attack: Callable[[Classifier, Images], Tensor], classifier: Classifier, images: Images, norm: Norm
) -> Outcome:
    """An attack on all images, AT_ONCE at a time, in its processor time."""
    view, parts = classifier.metered(len(images)), torch.arange(len(images)).split(AT_ONCE)
    start = time.process_time()
    found = [attack(view.select(rows), images.select(rows)).detach() for rows in parts]
    seconds = time.process_time() - start
    verdict = judge(classifier, images, torch.cat(found), norm, None)
    spent = float((view.meter.forwards + view.meter.backwards).mean())
    return Outcome(getattr(verdict, norm.value), spent, seconds)


def of_ours(attack: Attack, classifier: Classifier, images: Images) -> Tensor:
    return attack.run(classifier, images, None, Streams.for_images(0, attack.label, images.ids, images.pixels)).examples


def of_theirs(attack: Callable[[nn.Module, Tensor, Tensor], Tensor], classifier: Classifier, images: Images) -> Tensor:
    return attack(classifier.as_module(), images.pixels.clone(), images.labels)


def as_long(name: str, norm: Norm, queries: int, classes: int) -> Attack:
    """The longest of ours that declares to take no more than so many queries."""
    fixed = {"minimum_distance": True, "loss": "dlr"} if name == "apgd" else {}

    def make(length: int) -> Attack:
        return ATTACKS[name].model_validate({"norm": norm, **fixed, **dict.fromkeys(LENGTHS[name], length)})

    def cost(length: int) -> float:
        passes = make(length).passes(1, classes)
        assert passes is not None
        return passes.forward + passes.backward

    length = 1
    while LENGTHS[name] and cost(length + 1) <= queries:
        length += 1
    return make(length)


def optimality(distances: Tensor, best: Tensor) -> float:
    """AttackBench, section 3: 1 less the area between the two curves, over that above the curve of the best."""
    farthest = best[best.isfinite()].max()
    area = distances.clamp_max(float(farthest)).mean() / farthest
    least = best.clamp_max(float(farthest)).mean() / farthest
    return float((1 - area) / (1 - least)) if least < 1 else float((area <= least + 1e-9).double())


def opened(folder: Path, name: str, mnist: str, cifar: str, count: int) -> tuple[Classifier, Images]:
    """A model, and images that it was not trained on and gets right; its own answers where it was not trained."""
    network = open_network(folder, name)
    images = split(read_images(mnist))[1] if name.startswith("mnist") else read_images(f"{cifar}:test", 6 * count)
    classifier = as_classifier(network, images.select(torch.arange(2)), 100)
    predicted = classifier.predict(images.pixels).argmax(1)
    if name in KINDS and not KINDS[name].epochs:
        images = replace(images, labels=predicted)
    return classifier, images.select((predicted == images.labels).nonzero()[:count, 0])


def table(name: str, classifier: Classifier, images: Images, norm: Norm, queries: int, alone: bool) -> bool:
    """Print one model and norm; whether `closest` is close enough."""
    theirs = rivals(norm, queries) | foolbox(norm, queries)
    outcomes = {f"their {n}": measured(partial(of_theirs, a), classifier, images, norm) for n, a in theirs.items()}
    names = [n for n in LENGTHS if norm in ATTACKS[n].norms] if alone else []
    own = {n: as_long(n, norm, queries, classifier.num_classes) for n in names}
    own["closest"] = ATTACKS["closest"].model_validate({"norm": norm, "queries": queries})
    outcomes |= {n: measured(partial(of_ours, a), classifier, images, norm) for n, a in own.items()}
    best = torch.stack([o.distances for o in outcomes.values()]).amin(0)
    mine = outcomes["closest"].distances
    together = torch.stack([o.distances for n, o in outcomes.items() if n.startswith("their")]).amin(0)
    print(f"\n{name}, {norm.symbol}, {queries} queries, {len(images)} images\n")
    print("| attack | median | optimality | failed | over 1 % closer than closest | queries | s |")
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: |")
    worst = 0.0
    for label, o in sorted(outcomes.items(), key=lambda item: -optimality(item[1].distances, best)):
        share = float((o.distances * CLOSER < mine).double().mean())
        worst = max(worst, share if label.startswith("their") else 0)
        print(
            f"| {label} | {float(o.distances.median()):.4g} | {optimality(o.distances, best):.4f} "
            f"| {int(o.distances.isinf().sum())} | {share:.3f} | {o.queries:.0f} | {o.seconds:.1f} |",
            flush=True,
        )
    reached = optimality(mine, torch.minimum(mine, together))
    print(f"\nclosest against all rivals together: {reached:.4f}; a rival is closer on {worst:.3f} at most", flush=True)
    return reached >= ENOUGH and worst <= SHARE and not math.isnan(reached)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("mnist")
    parser.add_argument("cifar")
    parser.add_argument("--images", type=int, default=100)
    parser.add_argument("--queries", type=int, nargs="*", default=[1000, 2000])
    parser.add_argument("--models", nargs="*", default=[*KINDS, *GIVEN])
    parser.add_argument("--norms", nargs="*", default=[norm.value for norm in Norm])
    parser.add_argument("--alone", action="store_true", help="ours with a namesake, too")
    options = parser.parse_args()
    torch.set_num_threads(1)
    short = []
    for name in options.models:
        classifier, images = opened(options.folder, name, options.mnist, options.cifar, options.images)
        for norm, queries in product(map(Norm, options.norms), options.queries):
            if not table(name, classifier, images, norm, queries, options.alone):
                short += [f"{name} {norm.symbol} at {queries}"]
    print(f"\nclosest is not close enough on {len(short)}: {', '.join(short) or 'none'}")
    sys.exit(bool(short))


if __name__ == "__main__":
    main()
