"""What an audit of many small images spends outside its stages, and what its report takes.

    python benchmarks/overhead.py [--images 20000] [--batch-size auto]

A made-up set of 1x8x8 images, two linear layers, `fgsm`, `ibp` and noise: as little work a shard as there can be.
Outside are reading and writing of parts, the disk, the tables, and whatever else is neither the model nor the
arithmetic of a method. Seconds are those of the clock; compare shares.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import torch
from torch import nn

from robusteval import audit
from robusteval.reports import write_report
from robusteval.results.shards import planned_shards

PROTOCOL = """
[budgets]
linf = [0.03]
[[attacks]]
method = "fgsm"
norm = "linf"
[[certificates]]
method = "ibp"
norm = "linf"
[[metrics]]
method = "noise"
sigmas = [0.1]
samples = 2
"""


def made_up(n: int) -> tuple[nn.Module, torch.Tensor, torch.Tensor]:
    """A network, images, and its own answers as labels, of which a tenth is wrong."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))
    pixels = torch.rand(n, 1, 8, 8)
    with torch.no_grad():
        labels = network(pixels).argmax(1)
    return network, pixels, torch.where(torch.arange(n) % 10 == 0, (labels + 1) % 10, labels)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=20_000)
    parser.add_argument("--batch-size", default="auto")
    options = parser.parse_args()
    network, pixels, labels = made_up(options.images)
    size = options.batch_size if options.batch_size == "auto" else int(options.batch_size)
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "p.toml").write_text(PROTOCOL, encoding="utf-8", newline="\n")
        began = time.perf_counter()
        run = audit(
            network, (pixels, labels), f"{folder}/p.toml", f"{folder}/run", device="cpu", batch_size=size, seed=0
        )
        whole = time.perf_counter() - began
        began = time.perf_counter()
        write_report(run)
        report = time.perf_counter() - began
    stages = run.manifest.stages
    inside = sum(stage.cost.seconds for stage in stages)
    model = sum(stage.cost.model_seconds for stage in stages)
    shards = sum(len(planned_shards(run.manifest, stage)) for stage in stages)
    print(
        f"{options.images:,} images, {shards} shards of at most {run.manifest.batch_size}, {torch.get_num_threads()} "
        f"threads: audit {whole:.1f} s, of which the model {model / whole:.0%}, the stages {inside / whole:.0%} and "
        f"{1e3 * (whole - inside) / shards:.1f} ms a shard outside of them; report {report:.1f} s"
    )


if __name__ == "__main__":
    main()
