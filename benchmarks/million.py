"""A million images in one command, which is killed on the way: audit, verification of a sample, report, leaderboard;
what they take at other sizes, and what an image more costs in memory and time.

    python benchmarks/million.py [--images 1000000] [--sizes 10000 100000] [--kills 5] [--folder FOLDER]

Made-up images of 1x8x8 in an .npy file, two linear layers, `fgsm`, `ibp` and noise: as little work as there can be.
Each command is a process of its own; its peak memory is what the system says of it, its time that of the clock. At the
largest size the audit is killed at random times (SIGKILL) and the same command continues it. Linux or macOS.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from safetensors.torch import save_file
from torch import nn

from overhead import PROTOCOL
from robusteval import Run
from robusteval.results.shards import planned_shards

NETWORK = """
from torch import nn

def network():
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))
"""
BLOCK = 10_000
SAMPLE = 3
"""Images whose shards are verified."""


@dataclass(frozen=True)
class Took:
    """What a process took: seconds, and peak memory in bytes."""

    seconds: float
    peak: int


def made_up(folder: Path, count: int) -> Path:
    """Images in x.npy, what the network says of each in y.npy but for a tenth of them."""
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))
    save_file(model.state_dict(), folder / "m.safetensors")
    (folder / "network.py").write_text(NETWORK, encoding="utf-8", newline="\n")
    drawn = np.random.default_rng(0)
    pixels = np.lib.format.open_memmap(folder / "x.npy", "w+", np.uint8, (count, 1, 8, 8))
    labels = np.empty(count, np.int64)
    for at in range(0, count, BLOCK):
        some = drawn.integers(0, 256, (min(BLOCK, count - at), 1, 8, 8), dtype=np.uint8)
        pixels[at : at + len(some)] = some
        with torch.no_grad():
            labels[at : at + len(some)] = model(torch.from_numpy(some) / 255).argmax(1).numpy()
    pixels.flush()
    labels[::10] = (labels[::10] + 1) % 10
    np.save(folder / "y.npy", labels)
    (folder / "p.toml").write_text(PROTOCOL, encoding="utf-8", newline="\n")
    return folder / "x.npy"


def command(*arguments: object, kill_after: float | None = None) -> Took:
    """`robusteval` with these arguments, killed after so many seconds if it still runs. Raises RuntimeError where it
    fails."""
    with open(os.devnull, "wb") as nothing, TemporaryDirectory() as told:
        errors = Path(told) / "errors"
        began = time.perf_counter()
        with errors.open("wb") as file:
            process = subprocess.Popen(
                [sys.executable, "-m", "robusteval", *map(str, arguments)], stdout=nothing, stderr=file
            )
            if kill_after is not None:
                while process.poll() is None and time.perf_counter() - began < kill_after:
                    time.sleep(0.05)
                process.send_signal(signal.SIGKILL)
            _, status, used = os.wait4(process.pid, 0)
        code = os.waitstatus_to_exitcode(status)
        if code not in (0, -signal.SIGKILL):
            said = errors.read_text(encoding="utf-8", errors="replace")[-2000:]
            raise RuntimeError(f"expected exit code 0, got {code}: {said}")
    unit = 1 if sys.platform == "darwin" else 1024
    return Took(time.perf_counter() - began, used.ru_maxrss * unit)


def whole(folder: Path, count: int, kills: int, options: Sequence[object] = ()) -> dict[str, Took]:
    """Each command on so many images; the audit killed so often."""
    data, run = made_up(folder, count), folder / "run"
    model = (folder / "m.safetensors", "--arch", f"{folder / 'network.py'}:network")
    audit = ("audit", *model, "--data", data, "--protocol", folder / "p.toml", "--out", run, *options)
    found: dict[str, Took] = {}
    died: list[Took] = []
    drawn = random.Random(0)
    while len(died) < kills:
        died.append(command(*audit, kill_after=drawn.uniform(10, 10 + count / 20_000)))
        print(f"  killed after {died[-1].seconds:.0f} s, {shards_there(run):,} shards are there", flush=True)
    last = command(*audit)
    found["audit"] = Took(sum(t.seconds for t in (*died, last)), max(t.peak for t in (*died, last)))
    found["verify"] = command("verify", run, "--sample", SAMPLE, "--trust", folder / "network.py")
    found["report"] = command("report", run)
    found["leaderboard"] = command("leaderboard", run, "--out", folder / "board")
    return found


def shards_there(run: Path) -> int:
    return sum(1 for path in (run / "parts").glob("*/*.parquet")) if run.is_dir() else 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=1_000_000)
    parser.add_argument("--sizes", type=int, nargs="*", default=[10_000, 100_000])
    parser.add_argument("--kills", type=int, default=5)
    parser.add_argument("--folder", type=Path, default=None)
    options, others = parser.parse_known_args()
    with TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary)
        found = {}
        for count in sorted({*options.sizes, options.images}):
            place = folder / str(count)
            shutil.rmtree(place, ignore_errors=True)
            kills = options.kills if count == options.images else 0
            found[count] = whole(place, count, kills, others)
            for name, took in found[count].items():
                print(f"{count:>9,} images, {name}: {took.seconds:.1f} s, {took.peak / 2**20:.0f} MiB", flush=True)
            manifest = Run.open(place / "run").manifest
            inside = sum(stage.cost.seconds for stage in manifest.stages)
            shards = sum(len(planned_shards(manifest, stage)) for stage in manifest.stages)
            whole_seconds = found[count]["audit"].seconds
            print(
                f"{count:>9,} images, audit: {shards:,} shards of at most {manifest.batch_size}; "
                f"{1 - inside / whole_seconds:.0%} of the time outside the stages, "
                f"{1e3 * (whole_seconds - inside) / shards:.1f} ms a shard"
            )
        few, many = min(found), max(found)
        for name in found[many]:
            more = many - few
            bytes_each = (found[many][name].peak - found[few][name].peak) / more
            seconds_each = (found[many][name].seconds - found[few][name].seconds) / more
            print(f"{name}: {bytes_each:,.0f} bytes and {1e6 * seconds_each:,.0f} microseconds an image more")


if __name__ == "__main__":
    main()
