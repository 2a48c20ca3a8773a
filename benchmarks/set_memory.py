"""What an audit of a metric of the whole set holds in memory, and how that grows with the images.

    python benchmarks/set_memory.py [--images 2000 20000]

Made-up images of 3x32x32 in an .npy file, a linear layer, `fgsm`, the covariance of its perturbations and the softmax
outputs along them. Each audit is a process; the peak is that of the whole process.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

PROTOCOL = """
[budgets]
linf = [0.03]
[[attacks]]
method = "fgsm"
norm = "linf"
[[metrics]]
method = "covariance"
witnesses = "fgsm-linf"
[[metrics]]
method = "softmax-line"
witnesses = "fgsm-linf"
points = 5
"""
AUDIT = """
import resource, sys
import torch
import robusteval as rv
from robusteval.core import stored

stored.IN_MEMORY = 0
torch.set_num_threads(1)
torch.manual_seed(0)
network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3072, 10))
data, protocol, out = sys.argv[1:]
run = rv.audit(network, data, protocol, out, device="cpu", batch_size=250)
for name in ("covariance", "softmax-line"):
    record = run.manifest.stage(name)
    print(f"{name} {record.status} in {record.cost.seconds:.1f} s")
print("peak", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024))
"""


def peak(folder: Path, count: int) -> int:
    """Bytes of an audit of so many images."""
    folder.mkdir()
    generator = np.random.default_rng(0)
    pixels = np.lib.format.open_memmap(folder / "x.npy", "w+", np.uint8, (count, 3, 32, 32))
    for i in range(0, count, 1000):
        pixels[i : i + 1000] = generator.integers(0, 256, pixels[i : i + 1000].shape, np.uint8)
    pixels.flush()
    np.save(folder / "y.npy", np.arange(count) % 10)
    (folder / "p.toml").write_text(PROTOCOL, encoding="utf-8", newline="\n")
    (folder / "a.py").write_text(AUDIT, encoding="utf-8", newline="\n")
    asked = [sys.executable, folder / "a.py", folder / "x.npy", folder / "p.toml", folder / "run"]
    done = subprocess.run(list(map(str, asked)), stdout=subprocess.PIPE, encoding="utf-8", check=True)
    found = re.findall(r"peak (\d+)", done.stdout)
    print(f"{count:,} images: peak {int(found[0]) / 2**20:,.0f} MiB; {'; '.join(done.stdout.splitlines()[:-1])}")
    return int(found[0])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, nargs=2, default=[2_000, 20_000])
    few, many = parser.parse_args().images
    with tempfile.TemporaryDirectory() as folder:
        grown = peak(Path(folder) / "few", few), peak(Path(folder) / "many", many)
    print(f"an image more: {(grown[1] - grown[0]) / (many - few):,.0f} bytes")


if __name__ == "__main__":
    main()
