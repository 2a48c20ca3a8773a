"""Whether passes forward alone would gain by larger batches than passes forward and back, by which batches are chosen.

    python benchmarks/forward_batches.py [--seconds 45]

Three convolutional networks; sizes take turns for so many seconds each, on one thread, and the least processor time
of an image counts. A size is chosen as audits choose it: a larger one only where it is 5 % faster forward and back.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import replace

import torch
from torch import nn

from robusteval.models.making import make_classifier

GAIN = 1.05
NETWORKS = {
    "small": ((1, 8, 8), 16, 2, (32, 64, 128, 256, 512)),
    "middle": ((1, 28, 28), 32, 4, (16, 32, 64, 128, 256)),
    "large": ((3, 32, 32), 64, 8, (8, 16, 32, 64)),
}
"""Images, channels of the first layer, layers, batch sizes."""


def network(shape: tuple[int, int, int], width: int, layers: int) -> nn.Module:
    made: list[nn.Module] = []
    channels = shape[0]
    for i in range(layers):
        wider = width * (1 + (i + 1) // 2)
        made += [nn.Conv2d(channels, wider, 3, 1 + i % 2, 1), nn.ReLU()]
        channels = wider
    return nn.Sequential(*made, nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(4 * channels, 10))


def each(action: Callable[[], object], images: int, times: int) -> float:
    """Microseconds of processor time an image."""
    began = time.thread_time()
    for _ in range(times):
        action()
    return 1e6 * (time.thread_time() - began) / times / images


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=45)
    seconds = parser.parse_args().seconds
    torch.set_num_threads(1)
    for name, (shape, width, layers, sizes) in NETWORKS.items():
        classifier = make_classifier(name, network(shape, width, layers), shape)
        forward, both, began = dict.fromkeys(sizes, 1e9), dict.fromkeys(sizes, 1e9), time.monotonic()
        while time.monotonic() - began < seconds:
            for size in sizes:
                x, view, times = torch.rand(size, *shape), replace(classifier, batch_size=size), max(1, 512 // size)
                alone = each(lambda x=x, view=view: view.predict(x), size, times)  # type: ignore[misc]
                back = each(
                    lambda x=x, view=view: view.gradient(x, lambda logits: logits[:, 0]),  # type: ignore[misc]
                    size,
                    max(1, times // 4),
                )
                forward[size], both[size] = min(forward[size], alone), min(both[size], back)
        chosen = sizes[0]
        for size in sizes:
            chosen = size if both[chosen] / both[size] > GAIN else chosen
        best = min(forward, key=forward.__getitem__)
        print(
            f"{name}: {chosen} chosen, {best} best forward, {forward[chosen] / forward[best]:.2f} times as fast; us an "
            f"image: forward {_rounded(forward)}, forward and back {_rounded(both)}"
        )


def _rounded(times: dict[int, float]) -> str:
    return ", ".join(f"{size}: {value:.1f}" for size, value in times.items())


if __name__ == "__main__":
    main()
