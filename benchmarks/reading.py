"""What reading a finished run takes: time and peak memory of its report and its leaderboard, by number of images.

    python benchmarks/reading.py [--images 1000 10000 100000 1000000] [--keep FOLDER]

The runs are one audit of 1,000 images of overhead.py, its rows and images repeated under other names, written as the
audit writes them: the tables and the images, not the parts. Each page is made in a process of its own, whose peak is
that of the process and of those that it forks; the slope is what a further image adds to the peak.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

from overhead import PROTOCOL, made_up
from repeated import repeated
from robusteval import audit
from robusteval.results.run import Run

FIRST = 1000
NEAREST = """
[[attacks]]
method = "deepfool"
norm = "l2"
"""
"""An attack whose distances differ from image to image."""
PAGES = {
    "report": "from robusteval.reports import write_report; write_report(Run.open(sys.argv[1]))",
    "leaderboard": "from robusteval.reports.leaderboard import leaderboard, write_board; "
    "write_board(leaderboard([Run.open(sys.argv[1])]), sys.argv[1] + '/board')",
}
PROBE = """
import json, resource, sys
from pathlib import Path
from robusteval.results.run import Run
who = resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN
seconds = lambda: sum(used.ru_utime + used.ru_stime for used in map(resource.getrusage, who))
began = seconds()
{page}
# Of this process since it began; what getrusage says of it holds the one that started it.
own = int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0])
peak = max(own, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
print(json.dumps([seconds() - began, 1024 * peak]))
"""


def audited(folder: Path) -> Run:
    """The run that is repeated."""
    network, pixels, labels = made_up(FIRST)
    (folder / "p.toml").write_text(PROTOCOL + NEAREST, encoding="utf-8", newline="\n")
    return audit(network, (pixels, labels), str(folder / "p.toml"), folder / "first", device="cpu", seed=0)


def measured(run: Path, page: str) -> tuple[float, float]:
    """Seconds and peak bytes of one page of a run."""
    command = [sys.executable, "-c", PROBE.format(page=PAGES[page]), str(run)]
    done = subprocess.run(command, capture_output=True, encoding="utf-8")
    if done.returncode:
        raise SystemExit(done.stderr)
    seconds, peak = json.loads(done.stdout.splitlines()[-1])
    return seconds, peak


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, nargs="+", default=[1000, 10_000, 100_000, 1_000_000])
    parser.add_argument("--pages", nargs="+", default=list(PAGES), choices=list(PAGES))
    parser.add_argument("--keep", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        first = audited(Path(folder))
        before: dict[str, tuple[int, float]] = {}
        for n in sorted(options.images):
            into = (options.keep or Path(folder)) / str(n)
            run = Run.open(into) if into.exists() else repeated(first, into, n)
            for page in options.pages:
                seconds, peak = measured(run.path, page)
                slope = ""
                if page in before:
                    less, then = before[page]
                    slope = f", {(peak - then) / (n - less):,.0f} bytes an image more"
                before[page] = n, peak
                size = (run.path / ("report.html" if page == "report" else "board/leaderboard.html")).stat().st_size
                took = f"{seconds:.1f} s, peak {peak / 1e6:,.0f} MB{slope}, page {size / 1e6:.1f} MB"
                print(f"{n:>9,} images, {page}: {took}", flush=True)


if __name__ == "__main__":
    main()
