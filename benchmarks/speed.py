"""Wall time of own attacks against foolbox's at equal settings, of LRC at 224x224, and of a search in bfloat16.

    python benchmarks/speed.py DATA STANDARD ROBUST --arch cnn7-mnist [--images 500] [--repeats 3]

Both sides run in turn, in batches of 100, and the median ratio of the turns is shown: above 1 means that robusteval is
faster. PGD: 40 steps from a random start at a budget that breaks most images of the standard model, and on the robust
one; foolbox gets the network as its users load it, and then with frozen parameters. DeepFool: the same steps, overshoot
and candidates, with the median distance of each.
"""

from __future__ import annotations

import resource
import statistics
import time

import numpy as np
import torch

from measuring import Outcome, arguments, clocked, correct_images, measure, open_model, trainable
from robusteval.attacks import ATTACKS
from robusteval.attacks.external.foolbox_bridge import library
from robusteval.attacks.external.libraries import guarded
from robusteval.attacks.lrc import LRC
from robusteval.attacks.pgd import PGD
from robusteval.core.images import Images
from robusteval.core.norms import Norm
from robusteval.core.streams import Streams
from robusteval.models.classifier import Classifier
from robusteval.models.making import make_classifier


def foolbox_pgd(classifier: Classifier, images: Images, norm: Norm, budget: float, steps: int, step: float) -> Outcome:
    """foolbox's PGD with the same steps."""
    foolbox = library()
    kind = foolbox.attacks.LinfPGD if norm is Norm.LINF else foolbox.attacks.L2PGD
    attack = kind(steps=steps, rel_stepsize=step)

    def run(view: Classifier, block: Images) -> torch.Tensor:
        with guarded(0, block.pixels):
            model = foolbox.PyTorchModel(view.as_module(), bounds=(0, 1), device=block.pixels.device)
            _, found, _ = attack(model, block.pixels, block.labels, epsilons=budget)
        candidates: torch.Tensor = found
        return candidates

    return clocked(run, classifier, images, norm, budget)


def show(what: str, turns: list[tuple[Outcome, Outcome]]) -> None:
    ratio = statistics.median(theirs.seconds / own.seconds for own, theirs in turns)
    own, theirs = turns[0]
    medians = (float(np.median(o.distances)) for o in (own, theirs))
    print(
        f"{what}: {ratio:.2f} times as fast (fooled {own.fooled:.3f} and {theirs.fooled:.3f}, median distance "
        f"{next(medians):.4f} and {next(medians):.4f}, evaluations an image {own.evaluations:.0f} and "
        f"{theirs.evaluations:.0f})",
        flush=True,
    )


def lrc() -> None:
    """100 draws for one image of 3x224x224, on a network that costs next to nothing."""
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), torch.nn.Linear(3, 2))
    classifier = make_classifier("tiny", network, (3, 224, 224))
    pixels = torch.full((1, 3, 224, 224), 0.5)
    images = Images(("a",), pixels, classifier.predict(pixels).argmax(1))
    attack = LRC(norm=Norm.L2, samples=100)
    start = time.perf_counter()
    attack.run(classifier.metered(1), images, torch.tensor([1e-4]), Streams.for_images(0, "lrc", images.ids, pixels))
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(
        f"LRC, 100 perturbations of 3x224x224: {seconds:.2f} s, peak memory of the process {peak:.2f} GiB", flush=True
    )


def bfloat16(name: str, classifier: Classifier, images: Images, budget: float) -> None:
    """What a search in bfloat16 saves, and what it misses."""
    attack = PGD(norm=Norm.LINF, steps=40, step=0.05)
    full = measure(attack, classifier, images, budget)
    reduced = classifier.reduced(torch.bfloat16)
    seconds, hits = 0.0, 0.0
    for rows in torch.arange(len(images)).split(100):
        block = images.select(rows)
        start = time.perf_counter()
        radii = block.pixels.new_full((len(block),), budget)
        streams = Streams.for_images(0, "pgd", block.ids, block.pixels)
        found = attack.run(reduced.metered(len(block)), block, radii, streams).examples
        seconds += time.perf_counter() - start
        hits += float((classifier.predict(found).argmax(1) != block.labels).sum())
    print(
        f"PGD-40 in bfloat16 on {name}: {full.seconds / seconds:.2f} times as fast as float32, fooled "
        f"{hits / len(images):.3f} and {full.fooled:.3f}",
        flush=True,
    )


def main() -> None:
    parser = arguments(__doc__, arch="cnn7-mnist")
    parser.add_argument("standard")
    parser.add_argument("robust")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--budget", type=float, default=0.2)
    parser.add_argument("--robust-budget", type=float, default=0.05)
    options = parser.parse_args()
    print(f"{torch.get_num_threads()} threads, torch {torch.__version__}, {options.images} correctly classified images")
    lrc()
    for name, path, budget in (
        ("standard", options.standard, options.budget),
        ("robust", options.robust, options.robust_budget),
    ):
        classifier = open_model(path, options.arch, options.data)
        images = correct_images(classifier, options.data, options.images)
        for norm, radius in ((Norm.LINF, budget), (Norm.L2, 12 * budget)):
            attack = PGD(norm=norm, steps=40, step=0.05)
            for what, network in (("", trainable(classifier)), (" frozen", classifier)):
                turns = [
                    (
                        measure(attack, classifier, images, radius),
                        foolbox_pgd(network, images, norm, radius, 40, 0.05),
                    )
                    for _ in range(options.repeats)
                ]
                show(f"PGD-40 on {name}{what}, {norm.symbol} {radius:g}", turns)
            own, theirs = ATTACKS["deepfool"](norm=norm), ATTACKS["foolbox-deepfool"](norm=norm)
            pairs = [
                (measure(own, classifier, images), measure(theirs, classifier, images)) for _ in range(options.repeats)
            ]
            show(f"DeepFool on {name}, {norm.symbol}", pairs)
        bfloat16(name, classifier, images, budget)


if __name__ == "__main__":
    main()
