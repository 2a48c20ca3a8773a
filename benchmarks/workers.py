"""How much faster two processes are than one thread, method by method, on a small network.

    python benchmarks/workers.py [--workers 2] [--limit 400] [--methods pgd smoothing crown]

The demo's standard network on digits. Each audit has a process of its own and one thread a worker; first by one
process, then by several. Seconds are those of the clock, of the whole audit, the start of the workers in it, and of the
stage alone from its first shard to its last. On idle cores alone do they say something.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

DEMO = Path(__file__).parents[1] / "robusteval" / "demo" / "digits-standard.safetensors"
METHODS = {
    "pgd": 'budgets = {linf = [0.02]}\nattacks = [{method = "pgd", norm = "linf", steps = 40, restarts = 40}]',
    "smoothing": 'certificates = [{method = "smoothing", sigma = 0.25, n0 = 100, n = 4000}]',
    "crown": 'certificates = [{method = "crown", norm = "linf"}]',
}
AUDIT = """
import sys, time
import robusteval as rv
from robusteval.core.progress import Silent

class Clock(Silent):
    def __init__(self):
        self.begun = {}
    def stage(self, name, done, total):
        self.begun[name] = time.perf_counter()

if __name__ == "__main__":
    model, limit, protocol, out, workers = sys.argv[1:]
    clock, began = Clock(), time.perf_counter()
    run = rv.audit(
        model, "digits", protocol, out, arch="digits-cnn", limit=int(limit), device="cpu", workers=int(workers),
        batch_size=25, progress=clock,
    )
    names = [stage.name for stage in run.manifest.stages]
    method = names[-2]
    print(time.perf_counter() - began, clock.begun["repeat"] - clock.begun[method])
"""


def seconds(method: str, limit: int, workers: int) -> tuple[float, float]:
    """Of the whole audit, and of the stage of the method."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "p.toml").write_text(METHODS[method], encoding="utf-8", newline="\n")
        (folder / "a.py").write_text(AUDIT, encoding="utf-8", newline="\n")
        asked = [folder / "a.py", DEMO, limit, folder / "p.toml", folder / "run", workers]
        settings = os.environ | {"OMP_NUM_THREADS": str(workers)}  # shared by the workers: one each
        done = subprocess.run(
            [sys.executable, *map(str, asked)],
            capture_output=True,
            encoding="utf-8",
            check=True,
            env=settings,
        )
    whole, stage = map(float, done.stdout.split())
    return whole, stage


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--limit", type=int, default=400)
    parser.add_argument("--methods", nargs="*", choices=METHODS, default=list(METHODS))
    options = parser.parse_args()
    print(f"| method | one thread: audit, stage s | {options.workers} workers | faster: audit | stage |")
    print("| --- | ---: | ---: | ---: | ---: |")
    for method in options.methods:
        one, several = (seconds(method, options.limit, workers) for workers in (1, options.workers))
        print(
            f"| {method} | {one[0]:.1f}, {one[1]:.1f} | {several[0]:.1f}, {several[1]:.1f} | "
            f"{one[0] / several[0]:.2f} | {one[1] / several[1]:.2f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
