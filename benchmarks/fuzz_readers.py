"""Every reader of files that are not trusted, fuzzed for some minutes; each reader gets an equal share.

    python benchmarks/fuzz_readers.py --minutes 2

Half of the time files are drawn by hypothesis (changed_files.py), from another seed each time. In the other half, where
atheris is installed, they are bred by the lines of the package that they reach; elsewhere hypothesis has all of it.
Each reader runs in a watched process. Printed is how many files each read. A finding is anything but a file that is
read or refused by UserError: an exception, a crash, a hang, 4 GB, a program started, a file written elsewhere.
Its file is kept in fuzz-findings/, to become a test, and the exit code is 1.
"""

from __future__ import annotations

import argparse
import base64
import importlib
import importlib.util
import multiprocessing
import os
import re
import secrets
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from hypothesis.configuration import set_hypothesis_home_dir

# Threads of torch do not live on in forked processes, which would wait for them.
os.environ["OMP_NUM_THREADS"] = "1"
sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
GUIDED = importlib.util.find_spec("atheris") is not None
GOODS: dict[str, tuple[str, bytes, Callable[[Path], object]]] = {}
"""The good files, made before the processes are forked."""


def draw(name: str, content: bytes, read: Callable[[bytes], None], seconds: float) -> None:
    """Changes of `content` for so long, drawn by hypothesis; none is made smaller, which takes its time."""
    from changed_files import changed

    set_hypothesis_home_dir(tempfile.gettempdir())
    end, count = time.monotonic() + seconds, 0

    def try_it(data: Any) -> None:
        nonlocal count
        read(changed(data.draw, content))
        count += 1

    while time.monotonic() < end:
        checked = settings(
            max_examples=100,
            phases=[Phase.generate],
            database=None,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        )(given(st.data())(try_it))
        seed(secrets.randbits(64))(checked)()
    print(f"\n{count} files of the kind {name}")


def breed(name: str, content: bytes, read: Callable[[bytes], None], seconds: float) -> None:
    """Changes of `content` for so long, by atheris; never returns."""
    import atheris

    corpus = tempfile.mkdtemp()  # in the folder of the child
    Path(corpus, "good").write_bytes(content)
    most = [f"-max_total_time={max(1, round(seconds))}", f"-max_len={4 * len(content) + 4096}", "-timeout=20"]
    atheris.Setup(["fuzz", corpus, *most, "-rss_limit_mb=0", f"-artifact_prefix={corpus}/"], read)
    atheris.Fuzz()


def kept(name: str, path: Path) -> str:
    """The file of a finding is copied to fuzz-findings/; a small one is printed."""
    folder, content = Path("fuzz-findings"), path.read_bytes()
    folder.mkdir(exist_ok=True)
    (folder / f"{name}-{path.name}").write_bytes(content)
    return f"in {folder}/{name}-{path.name}; {base64.b64encode(content).decode() if len(content) < 4000 else ''}"


def fuzzed(task: tuple[str, bool, float]) -> tuple[str, int, str]:
    """What was tried, how many files were read, and the finding, empty for none."""
    from confining import confined
    from robusteval.core.errors import UserError

    name, bred, seconds = task
    where, content, reader = GOODS[name]
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder) / "work"
        path = work / where
        path.parent.mkdir(parents=True)

        def read(found: bytes) -> None:
            path.write_bytes(found)
            with suppress(UserError):
                reader(path)

        read(content)
        engine = breed if bred else draw
        outcome = confined(lambda: engine(name, content, read, seconds), work, seconds + 30, 4000)
        counts = re.findall(r"^(?:Done )?(\d+) (?:runs in|files of)", outcome.output, re.MULTILINE)
        found = ""
        if not (outcome.clean and outcome.code == 0 and counts):
            said = f"exit code {outcome.code}, hung: {outcome.hung}, {outcome.executed}, {outcome.outside}"
            found = f"{said}\n{outcome.output[-5000:]}\n{kept(name, path)}"
    return f"{name}, {'bred' if bred else 'drawn'}", int(counts[-1]) if counts else 0, found


def main() -> int:
    instrumented: Any = nullcontext()
    if GUIDED:
        instrumented = importlib.import_module("atheris").instrument_imports(include=["robusteval", "PIL"])
    with instrumented:
        from good_files import KINDS, good_files
        from run_fixture import build_run
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=2.0)
    parser.add_argument("--jobs", type=int, default=2, help="processes at a time")
    parser.add_argument("--kinds", nargs="+", default=KINDS, choices=KINDS)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        GOODS.update(good_files(build_run(Path(folder))))
    ways = (False, True) if GUIDED else (False,)
    seconds = options.minutes * 60 * options.jobs / len(options.kinds) / len(ways)
    tasks = [(kind, bred, seconds) for kind in options.kinds for bred in ways]
    print(
        f"{len(options.kinds)} readers, {seconds:.1f} s each {'drawn, and bred by atheris' if GUIDED else 'drawn'}",
        flush=True,
    )
    findings = 0
    with multiprocessing.get_context("fork").Pool(options.jobs) as pool:
        for what, count, finding in pool.imap(fuzzed, tasks):
            print(f"{count:7} files: {what}{f': FINDING{chr(10)}{finding}' if finding else ''}", flush=True)
            findings += bool(finding)
    print(f"{findings} findings")
    return int(findings > 0)


if __name__ == "__main__":
    raise SystemExit(main())
