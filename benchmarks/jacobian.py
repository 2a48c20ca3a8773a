"""The Jacobian of 200-dimensional features at 28x28 images, its singular values, and what others take for them.

    python benchmarks/jacobian.py [--arch cnn7-mnist] [--images 32] [--turns 5] [--threads 1]

The floor is one forward and one bare backward pass for each output, of a batch, at the batch size at which that is
fastest. Every way runs once a turn, and the ratio to the floor of the same turn is taken, so that the noise of a
shared machine hits all alike; medians over the turns. Weights are random: they change neither the time nor the shape
of the passes. Exits with 1 if our Jacobian takes more than 1.1 times the floor, or a value misses its accuracy.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Mapping

import torch
from torch import Tensor
from torch.func import jacrev, vmap

from robusteval.auditing.hardware import best_throughput
from robusteval.core.streams import Streams
from robusteval.models.architectures import ARCHITECTURES
from robusteval.models.classifier import Classifier
from robusteval.models.making import Preprocessed, make_classifier
from robusteval.numerics.jacobian import Map, jacobian, jacobians, outputs, spectrum
from robusteval.numerics.singular import decompose, leading

LIMIT = 1.1
SIZES = (1, 4, 8, 16, 32, 64)
RANKS = (1, 5, 20)
Way = Callable[[], object]


def bare(network: Map, pixels: Tensor, size: int) -> None:
    """One forward and as many backwards as there are outputs, of batches of `size`; nothing is kept."""
    for part in pixels.split(size):
        x = part.detach().requires_grad_()
        values = network(x)
        for i in range(values.shape[1]):
            weights = torch.zeros_like(values)
            weights[:, i] = 1
            torch.autograd.grad(values, x, weights, retain_graph=True)


def each_output(network: Map, pixels: Tensor, size: int) -> Tensor:
    """One batched vjp per output, rows stacked: what one writes first."""
    parts = []
    for part in pixels.split(size):
        x = part.detach().requires_grad_()
        values = network(x)
        rows = [torch.autograd.grad(values[:, i].sum(), x, retain_graph=True)[0] for i in range(values.shape[1])]
        parts.append(torch.stack(rows, dim=1).flatten(2))
    return torch.cat(parts)


def of_autograd(network: Map, pixels: Tensor) -> Tensor:
    """torch.autograd.functional.jacobian, image by image (of a batch it computes the zero blocks between images)."""
    rows = [torch.autograd.functional.jacobian(lambda v: network(v[None])[0], x) for x in pixels]
    return torch.stack(rows).flatten(2)


def of_functorch(network: Map, pixels: Tensor, size: int, chunk: int | None) -> Tensor:
    """vmap(jacrev) over the images, `size` of them and `chunk` outputs at a time."""
    each = vmap(jacrev(lambda v: network(v[None])[0], chunk_size=chunk))
    return torch.cat([each(part).flatten(2) for part in pixels.split(size)])


def whole(classifier: Classifier, f: Map, pixels: Tensor) -> Tensor:
    return torch.cat(list(jacobians(f, pixels, classifier.batch_size)))


def seconds(way: Way) -> float:
    start = time.perf_counter()
    way()
    return time.perf_counter() - start


def turns(ways: Mapping[str, Way], floor: str, count: int) -> dict[str, tuple[float, float]]:
    """By name: the median over the turns of the time over the floor's of the same turn, and the median time."""
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(count):
        # Every other turn backwards, so that no way always follows the same one.
        for name in list(ways)[:: 1 if turn % 2 else -1]:
            taken[name].append(seconds(ways[name]))
    return {
        name: (statistics.median(t / b for t, b in zip(times, taken[floor], strict=True)), statistics.median(times))
        for name, times in taken.items()
    }


def table(title: str, found: Mapping[str, tuple[float, float]], images: int, notes: Mapping[str, str]) -> None:
    print(f"\n| {title} | ratio | ms an image | |\n| --- | ---: | ---: | --- |")
    for name, (ratio, middle) in found.items():
        print(f"| {name} | {ratio:.2f} | {1e3 * middle / images:.2f} | {notes.get(name, '')} |")


def error(found: Tensor, exact: Tensor) -> float:
    """The largest relative error of a singular value above a thousandth of the largest."""
    counted = exact > 1e-3 * exact[:, :1]
    return float(((found - exact).abs() / exact)[counted].max())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--arch", default="cnn7-mnist")
    parser.add_argument("--images", type=int, default=32)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    shape = ARCHITECTURES[options.arch].input_shape
    classifier = make_classifier("random", ARCHITECTURES[options.arch].network().eval(), shape)
    n = options.images
    pixels = torch.rand(n, *shape)
    f = outputs(classifier, "features")
    network = unbooked(classifier)
    sizes = [s for s in SIZES if s <= n]
    measured = turns({str(s): lambda s=s: bare(network, pixels, s) for s in sizes}, str(sizes[-1]), 3)  # type: ignore[misc]
    best = int(min(measured, key=lambda s: measured[s][1]))
    size = best_throughput(classifier, torch.device("cpu"), torch.float32).batch_size
    print(f"{options.arch}, {n} images, torch {torch.__version__}, {options.threads} threads, {options.turns} turns")
    print("floor by batch size, ms an image:", ", ".join(f"{s}: {1e3 * t / n:.1f}" for s, (_, t) in measured.items()))
    print(f"best batch size {best}; --batch-size auto chooses {size}")

    floor = f"floor: bare passes, batches of {best}"
    ways: dict[str, Way] = {
        floor: lambda: bare(network, pixels, best),
        f"jacobians, batches of {best}": lambda: list(jacobians(f, pixels, best)),
        f"jacobians, --batch-size auto ({size})": lambda: list(jacobians(f, pixels, size)),
        f"one batched vjp per output, batches of {best}": lambda: each_output(network, pixels, best),
        "torch.autograd.functional.jacobian, image by image": lambda: of_autograd(network, pixels),
    }
    for block, chunk in ((1, None), (best, None), (best, 20), (best, 1)):
        name = f"vmap(jacrev), {block} images and {chunk or 'all'} outputs at a time"
        ways[name] = lambda block=block, chunk=chunk: of_functorch(network, pixels, block, chunk)  # type: ignore[misc]
    found = turns(ways, floor, options.turns)
    exact = each_output(network, pixels, best)
    largest = float(exact.abs().max())
    notes = {
        name: f"largest difference {float((way() - exact).abs().max()) / largest:.0e}"  # type: ignore[operator]
        for name, way in ways.items()
        if name.startswith(("torch", "vmap"))
    }
    off = float((torch.cat(list(jacobians(f, pixels, best))) - exact).abs().max()) / largest
    notes[f"jacobians, batches of {best}"] = f"largest difference {off:.0e}"
    table("Jacobian", found, n, notes)

    double = exact.double()
    full = "svdvals in float64"
    ways = {
        full: lambda: torch.linalg.svdvals(double),
        "svdvals in float32": lambda: torch.linalg.svdvals(exact),
        "spectrum: eigenvalues in float64": lambda: spectrum(exact),
        "eigenvalues in float32": lambda: torch.linalg.eigvalsh(exact @ exact.mT),
        "svd in float64, with vectors": lambda: torch.linalg.svd(double, full_matrices=False),
        "decompose: eigenvectors in float64": lambda: decompose(exact),
    }
    truth = torch.linalg.svdvals(double)
    rough = torch.linalg.eigvalsh(exact @ exact.mT).flip(1).clamp_min(0).sqrt()
    accuracy = {
        "svdvals in float32": error(torch.linalg.svdvals(exact), truth),
        "spectrum: eigenvalues in float64": error(spectrum(exact), truth),
        "eigenvalues in float32": error(rough, truth),
        "decompose: eigenvectors in float64": error(decompose(exact).values, truth),
    }
    notes = {name: f"largest relative error {e:.0e}" for name, e in accuracy.items()}
    table("Singular values of the Jacobian", turns(ways, full, options.turns), n, notes)

    few = pixels[:best]

    def streams() -> Streams:
        return Streams.for_images(0, "benchmark", [str(i) for i in range(len(few))], few)

    full = "all: Jacobian and eigenvectors"
    ways = {full: lambda: decompose(jacobian(f, few))}
    notes = {}
    for k in RANKS:
        name = f"leading {k}"
        ways[name] = lambda k=k: leading(f, few, k, streams())  # type: ignore[misc]
        view = classifier.metered(len(few))
        values = leading(outputs(view, "features"), few, k, streams()).values
        accuracy[name] = error(values, truth[: len(few), :k])
        forwards, backwards = float(view.meter.forwards.mean()), float(view.meter.backwards.mean())
        notes[name] = f"largest relative error {accuracy[name]:.0e}; {forwards:.0f} forwards, {backwards:.0f} backwards"
    table("Leading singular values and vectors without the matrix", turns(ways, full, options.turns), len(few), notes)

    limits = {"spectrum: eigenvalues in float64": 1e-6} | {f"leading {k}": 1e-3 for k in RANKS}
    ratio = found[f"jacobians, batches of {best}"][0]
    print(f"\nour Jacobian / floor: {ratio:.3f} (limit {LIMIT})")
    sys.exit(ratio > LIMIT or any(accuracy[name] > limit for name, limit in limits.items()))


def unbooked(classifier: Classifier) -> Map:
    """The features of the bare network, all layers but the last: functorch cannot trace through the counting."""
    module = classifier.module
    assert isinstance(module, Preprocessed)
    body = torch.nn.Sequential(*list(module.network.children())[:-1])
    return lambda pixels: body((pixels - module.mean) / module.std)


if __name__ == "__main__":
    main()
