"""Proofs of random networks, attacked on the networks themselves: none may be refuted.

    python benchmarks/fuzz_proofs.py --minutes 60 --first 0

The networks are written as people write them (random_networks.py): in place, through views, with shared layers, hooks
and residual branches, of every layer that bounds pass through (random_steps.py). Each is certified by each method in
one norm, in float32 and now and then in float64, and each proof is attacked inside its ball by PGD, by corners and by a
random search. Printed are how many networks were made, how many were refused and why, how many proofs with a radius
above zero were given, and how many were refuted: with any of those it exits with 1.
"""

from __future__ import annotations

import argparse
import re
import time
from collections import Counter

import torch
from torch import Tensor

from random_networks import SHAPE, RandomNetwork
from robusteval.attacks.pgd import PGD
from robusteval.attacks.search.ball import Ball
from robusteval.attacks.search.losses import Loss, margin
from robusteval.certify import CERTIFICATES
from robusteval.core.errors import RefutedError, UnsupportedError
from robusteval.core.images import Images
from robusteval.core.norms import BALLS, Norm
from robusteval.core.streams import Streams
from robusteval.models.classifier import Classifier
from robusteval.models.making import make_classifier

METHODS: dict[str, dict[str, int]] = {
    "ibp": {},
    "crown": {},
    "lipschitz": {},
    "beta-crown": {"domains": 40, "steps": 20},
}
"""With settings that keep them short."""


def network_of(seed: int) -> tuple[Classifier, Tensor]:
    """The classifier of a seed, and images (8, C, H, W): black, white, grey, corners of the box and noise."""
    classifier = make_classifier(f"random-{seed}", RandomNetwork(seed).eval(), SHAPE, (0.45,), (0.25,))
    generator = torch.Generator().manual_seed(seed)
    noise = torch.rand(5, *SHAPE, generator=generator)
    greys = torch.tensor([0.0, 1.0, 0.5]).view(-1, 1, 1, 1).expand(-1, *SHAPE)
    pixels = torch.cat([greys, noise[:2].round(), noise[2:]])
    dtype = torch.float64 if seed % 5 == 0 else torch.float32
    return classifier.to("cpu", dtype), pixels.to(dtype)


def refuted(classifier: Classifier, images: Images, norm: Norm, radius: Tensor, seed: int) -> int:
    """How many of the proven radii (N,) an attack breaks."""
    streams = Streams.for_images(seed, "fuzz", images.ids, images.pixels)
    ball, broken = Ball.around(images.pixels, norm, radius), torch.zeros(len(images), dtype=torch.bool)
    best, closest = images.pixels, torch.full_like(radius, -torch.inf)
    tried = [_edge(ball, images, streams, few=k % 2 == 1) for k in range(20)]
    try:
        attack = PGD(norm=norm, steps=20, restarts=2, loss=Loss.MARGIN)
        tried.append(attack.within(classifier.metered(len(images)), images, ball.radius, streams).examples)
    except (RuntimeError, UnsupportedError):
        # What works in place often has no gradient.
        tried += [_edge(ball, images, streams, few=False) for _ in range(20)]
    for k in range(60):
        moved = tried[k] if k < len(tried) else ball.nearest(best + _step(ball, images, streams, k))
        inside = norm.size(moved.double() - images.pixels.double()) <= radius
        logits = classifier.predict(moved)
        broken |= inside & (logits.argmax(1) != images.labels)
        height = margin(logits, images.labels).double()
        better = inside & (height > closest)
        best = torch.where(better[:, None, None, None], moved, best)
        closest = torch.where(better, height, closest)
    return int(broken.sum())


def _edge(ball: Ball, images: Images, streams: Streams, few: bool) -> Tensor:
    direction = streams.in_ball(Norm.LINF, *images.shape)
    direction = direction * (direction.abs() > 0.8) if few else direction.sign()
    return ball.nearest(images.pixels + ball.step(1.0, ball.norm.scale_to(direction, 1.0)))


def _step(ball: Ball, images: Images, streams: Streams, k: int) -> Tensor:
    return ball.step(0.5 / (1 + k % 7), ball.norm.scale_to(streams.in_ball(Norm.LINF, *images.shape), 1.0))


def fuzz(seed: int, counts: Counter[str]) -> None:
    """Make, certify and attack the network of a seed; add to the counts."""
    counts["networks"] += 1
    try:
        classifier, pixels = network_of(seed)
    except ValueError:
        counts["networks that torch itself cannot run"] += 1
        return
    labels = classifier.predict(pixels.clone()).argmax(1)
    images = Images(tuple(map(str, range(len(pixels)))), pixels, labels)
    norm = BALLS[seed % 3]
    for name, settings in METHODS.items():
        try:
            certificate = CERTIFICATES[name].model_validate({"norm": norm, **settings})
            radius = certificate(classifier, pixels, labels, seed=seed).radius
        except UnsupportedError as error:
            counts[f"refused: {reason(str(error))}"] += 1
            return
        except RefutedError as error:
            counts["refuted"] += 1
            print(f"seed {seed}: {error}", flush=True)
            return
        rows = radius > 0
        counts[f"proofs by {name}"] += int(rows.sum())
        if rows.any() and (wrong := refuted(classifier, images.select(rows), norm, radius[rows], seed)):
            counts["refuted"] += wrong
            print(f"seed {seed}: {wrong} proofs of {name} in {norm.symbol} refuted", flush=True)
    counts["networks certified"] += 1


def reason(message: str) -> str:
    """Why a network was refused, without what differs from one to the next."""
    text = re.sub(r"\([^()]*\)", "", message.split(", got ", 1)[-1])
    text = re.sub(r"'[^']*'|random-\d+", "*", text).split(";")[0]
    return " ".join(text.split())[:80]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=2.0)
    parser.add_argument("--first", type=int, default=0, help="the seed of the first network")
    options = parser.parse_args()
    counts, seed, told = Counter[str](), options.first, time.monotonic()
    end = told + 60 * options.minutes
    while time.monotonic() < end:
        fuzz(seed, counts)
        seed += 1
        if time.monotonic() > told + 60:
            told = time.monotonic()
            print(f"seed {seed}: {dict(counts)}", flush=True)
    for what, count in sorted(counts.items()):
        print(f"{count:8,}  {what}")
    print(f"{counts['refuted']:8,}  refuted, of networks {options.first} to {seed - 1}")
    if counts["refuted"]:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
