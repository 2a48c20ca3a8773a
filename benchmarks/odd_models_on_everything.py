"""Every odd model of the tests through `everything` by the command line: exit code, flags, robust accuracies.

python benchmarks/odd_models_on_everything.py [NAME ...] [--limit N]
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests"))

import odd_models  # noqa: E402
from commands import here  # noqa: E402
from robusteval import Run  # noqa: E402
from robusteval.analysis.summary import summarise  # noqa: E402


def main() -> None:
    known = [n for n, value in vars(odd_models).items() if callable(value) and value.__module__ == "odd_models"]
    known = [n for n in known if getattr(vars(odd_models)[n], "__name__", "") == "build"]
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("names", nargs="*", help="All unless given.")
    parser.add_argument("--limit", type=int, default=10, help="Images.")
    given = parser.parse_args()
    for name in given.names or known:
        with TemporaryDirectory() as folder:
            start, out = time.perf_counter(), Path(folder) / "run"
            arch = f"{odd_models.__file__}:{name}"
            weights = ROOT / "robusteval" / "demo" / "digits-standard.safetensors"
            audited = ("audit", weights, "--arch", arch, "--protocol", "everything", "--out", out)
            done = here(*audited, "--data", "digits", "--limit", given.limit)
            said = " ".join(done.stderr.split())
            if done.returncode == 2:
                print(f"{name}: exit 2, {said[said.find('error:') :]}", flush=True)
                continue
            found = summarise(Run.open(out))
            shares = ", ".join(f"{r.norm} {r.budget:.3g}: {r.share.value:.2f}" for r in found.robust)
            flags = ", ".join(f"{f.name} ({f.severity})" for f in found.flags) or "no flag"
            warned = "".join(f", warning {w.name}" for w in found.warnings)
            seconds = time.perf_counter() - start
            print(f"{name}: exit {done.returncode}, {shares}; {flags}{warned}; {seconds:.0f} s", flush=True)


if __name__ == "__main__":
    main()
