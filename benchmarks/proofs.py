"""Proven radii of MNIST networks: IBP, CROWN and the Lipschitz bound, how large they are and what they cost.

    python benchmarks/proofs.py DATA --arch lenet5 --images 1000 standard.safetensors pgd.safetensors

For each network, norm and method: the mean and median proven radius of the correctly classified images, the share of
all images of the set that is proven at each of a few radii, processor seconds an image, and how many bare forward
passes of the network (in batches of 100) would have taken as long.
"""

from __future__ import annotations

import resource
import time

import torch

from measuring import BATCH, arguments, open_model
from robusteval import read_images
from robusteval.certify import CERTIFICATES
from robusteval.certify.base import Certificate
from robusteval.core.images import Images
from robusteval.core.norms import Norm
from robusteval.core.streams import Streams
from robusteval.models.classifier import Classifier

RADII = {Norm.LINF: (0.005, 0.01, 0.02, 0.05), Norm.L2: (0.05, 0.1, 0.2, 0.5), Norm.L1: (0.5, 1.0, 2.0, 5.0)}


def forward_seconds(classifier: Classifier, images: Images) -> float:
    """Processor seconds that one image takes in a bare forward pass, the least of three turns."""
    turns = []
    for _ in range(3):
        start = time.process_time()
        with torch.no_grad():
            for pixels in images.pixels.split(BATCH):
                classifier.module(pixels)
        turns.append((time.process_time() - start) / len(images))
    return min(turns)


def prove(certificate: Certificate, classifier: Classifier, images: Images, forward: float) -> None:
    wall, start = time.perf_counter(), time.process_time()
    view = classifier.metered(len(images))
    of_set = Streams.for_set(0, certificate.label, images.pixels)
    state = certificate.prepare(view, images.by_id(), of_set, lambda done, total: None)
    of_images = Streams.for_images(0, certificate.label, images.ids, images.pixels)
    found = certificate.radii(view, images, state, of_images)
    seconds = (time.process_time() - start) / len(images)
    wall = (time.perf_counter() - wall) / len(images)
    right = found.radius[found.predicted == images.labels]
    shares = ", ".join(f"{float((found.radius >= r).double().mean()):.3f} at {r:g}" for r in RADII[certificate.norm])
    print(
        f"  {certificate.label}: mean {right.mean():.5f}, median {right.median():.5f}, proven {shares}; {seconds:.3f} "
        f"processor s an image ({wall:.3f} s of the clock), {seconds / forward:,.0f} forward passes, peak memory "
        f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.2f} GiB",
        flush=True,
    )


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("models", nargs="+")
    parser.add_argument("--norms", nargs="+", default=["linf", "l2"])
    parser.add_argument("--methods", nargs="+", default=["ibp", "lipschitz", "crown"])
    parser.add_argument("--optimise", type=int, default=0, help="steps of slope optimisation of crown")
    options = parser.parse_args()
    images = read_images(options.data, options.images)
    print(f"{torch.get_num_threads()} threads, torch {torch.__version__}, {len(images)} images")
    for path in options.models:
        classifier = open_model(path, options.arch, options.data)
        forward = forward_seconds(classifier, images)
        print(f"{classifier.name}: {1e6 * forward:.0f} processor microseconds a forward pass", flush=True)
        for norm in map(Norm, options.norms):
            for name in options.methods:
                extra = {"optimise": options.optimise} if name == "crown" else {}
                prove(CERTIFICATES[name].model_validate({"norm": norm, **extra}), classifier, images, forward)


if __name__ == "__main__":
    main()
