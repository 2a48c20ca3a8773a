"""What the command line costs before it does anything: `robusteval --help` against a Python that does nothing.

    python benchmarks/startup.py [--turns 5]

In turn, each in a process of its own, and the best of the turns: other work on the machine only ever adds.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time

COMMANDS = {
    "python -c pass": [sys.executable, "-c", "pass"],
    "robusteval --help": [sys.executable, "-m", "robusteval", "--help"],
}


def seconds(command: list[str]) -> float:
    """From the start of a process to its end."""
    start = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=5)
    turns = parser.parse_args().turns
    taken: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for _ in range(turns):
        for name, command in COMMANDS.items():
            taken[name].append(seconds(command))
    for name, found in taken.items():
        print(f"{name:20} {min(found):.3f} s, best of {turns}")


if __name__ == "__main__":
    main()
