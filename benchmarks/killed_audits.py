"""Audits, reports and verifications that are killed at random times, or whose disk is full at random writes: the same
commands must end as if nothing had happened.

    python benchmarks/killed_audits.py --kills 1000 --full 1000 --seed 0

In each run directory an audit dies again and again, then ends, then `report` and `verify` die, then all three are run
once more. Held against a run that nothing disturbed: the manifest but for times and the command, every table and every
witness by value, every page byte for byte (the times taken from the other run), and `verify` must find nothing wrong.
A death is counted where the system says that the process was killed; a full disk where the command ended in one line
with exit code 2. Linux or macOS, one core.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

os.environ.setdefault("OMP_NUM_THREADS", "1")
ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests"))

import torch  # noqa: E402
from rich.progress import Progress  # noqa: E402

from killing import Ended, full_after, full_at, killed_after, killed_at, undisturbed  # noqa: E402
from robusteval import Run  # noqa: E402
from robusteval.results.manifest import NAME  # noqa: E402
from same_runs import differences  # noqa: E402
from small_audits import AUDIT, CASES, REPORT, VERIFY, Case, Whole, whole  # noqa: E402

DEATH, DISK = "death", "full disk"
COMPLETE = "report of an audit"
"""What an audit does in a run that is complete."""


@dataclass
class Counts:
    """What has happened so far."""

    killed: Counter[str] = field(default_factory=Counter)
    """By what was pending, or the command."""
    full: Counter[str] = field(default_factory=Counter)
    differences: list[str] = field(default_factory=list)
    runs: int = 0
    """Run directories that ended."""

    def sentence(self) -> str:
        kills, disks = (f"{c.total():,} {{}}, {c[REPORT] + c[VERIFY]:,} of them" for c in (self.killed, self.full))
        return (
            f"{kills.format('kills')} during report and verify, and {disks.format('full disks')} there, over "
            f"{self.runs:,} runs: {len(self.differences):,} differences"
        )


def disturbed(
    reference: Whole, folder: Path, draw: random.Random, kinds: Sequence[str], counts: Counts
) -> Iterator[None]:
    """One run directory: what is listed happens to its audit, until that has been complete for a while, and an eighth
    as much to reports and verifications; each that happened is yielded. What differs in the end is added to the
    counts."""
    case, before, tried = reference.case, len(counts.differences), list[str]()
    for kind in kinds:
        yield from _until_one(reference, folder, AUDIT, kind, draw, counts)
        tried.append(kind)
        if pending(folder / "run") == COMPLETE and draw.random() < 0.2:
            break
    if pending(folder / "run") != COMPLETE:
        _ends(case, folder, AUDIT, counts)
    for kind in (DEATH, DISK):
        for _ in range(-(-tried.count(kind) // 8)):
            yield from _until_one(reference, folder, draw.choice((REPORT, VERIFY)), kind, draw, counts)
    for verb in (AUDIT, VERIFY):
        _ends(case, folder, verb, counts)
    if len(counts.differences) == before:
        counts.differences += (f"{case.name}: {line}" for line in differences(reference.run, Run.open(folder / "run")))


def _until_one(
    reference: Whole, folder: Path, verb: str, kind: str, draw: random.Random, counts: Counts
) -> Iterator[None]:
    """Try until the command dies, or has ended before a full disk."""
    for _ in range(50):
        ended = _disturb(reference, folder, verb, kind, draw)
        where = verb if verb != AUDIT else pending(folder / "run")
        if kind == DEATH and ended.killed:
            counts.killed[where] += 1
        elif kind == DISK and ended.refused:
            counts.full[where] += 1
        elif ended.code == 0 and "Traceback" not in ended.output:
            continue
        else:
            counts.differences.append(f"{reference.case.name}: {verb} ended with {ended.code}: {ended.output}")
        yield
        return
    counts.differences.append(f"{reference.case.name}: {verb} could not be disturbed by a {kind}")


def _disturb(reference: Whole, folder: Path, verb: str, kind: str, draw: random.Random) -> Ended:
    action = reference.case.action(verb, folder)
    manifest, seconds, changes = folder / "run" / NAME, reference.seconds[verb], 60
    if verb == AUDIT:
        # Not long after it has come to where it died the last time, so that it dies everywhere.
        stages = Run.open(folder / "run").manifest.stages if manifest.exists() else ()
        ended = sum(s.status != "pending" for s in stages)
        seconds, changes = seconds * (0.1 + 0.04 * ended), 30 + 8 * ended
    if kind == DEATH:
        how, change = draw.randrange(3), draw.randint(1, changes)
        if how == 0:
            return killed_after(action, folder, draw.uniform(0, seconds))
        return killed_at(action, folder, change, draw.uniform(0, 0.1) if how == 1 else 0)
    if draw.random() < 0.3:
        # An audit writes its manifest after each stage.
        largest = manifest.stat().st_size if verb == AUDIT and manifest.exists() else 10_000
        return full_after(action, folder, int(largest ** draw.random()))
    return full_at(action, folder, draw.randint(1, changes), stays=draw.random() < 0.5)


def _ends(case: Case, folder: Path, verb: str, counts: Counts) -> None:
    """The command, undisturbed, must end in order."""
    ended = undisturbed(case.action(verb, folder), folder)
    if ended.code or "Traceback" in ended.output:
        counts.differences.append(f"{case.name}: {verb} afterwards ended with {ended.code}: {ended.output}")


def pending(path: Path) -> str:
    """The first stage of a run that has not ended."""
    if not (path / NAME).exists():
        return "before the manifest"
    manifest = Run.open(path).manifest
    if manifest.complete:
        return COMPLETE
    return next((s.name for s in manifest.stages if s.status == "pending"), "tables")


def until(
    references: Sequence[Whole], place: Path, draw: random.Random, kills: int, full: int, most: int, counts: Counts
) -> Iterator[None]:
    """Run directories of the references in turn, `most` of each kind at most in one, until there were so many kills and
    full disks; each that happened is yielded."""
    while True:
        left = {DEATH: kills - counts.killed.total(), DISK: full - counts.full.total()}
        kinds = [kind for kind, some in left.items() for _ in range(min(most, some))]
        if not kinds:
            return
        draw.shuffle(kinds)
        (folder := place / "disturbed").mkdir()
        yield from disturbed(references[counts.runs % len(references)], folder, draw, kinds, counts)
        shutil.rmtree(folder)
        counts.runs += 1


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=1000)
    parser.add_argument("--full", type=int, default=1000, help="full disks")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--most", type=int, default=30, help="kills, and full disks, in one run directory")
    given = parser.parse_args()
    torch.set_num_threads(1)
    draw, counts = random.Random(given.seed), Counts()
    with TemporaryDirectory(prefix="killed") as place, Progress() as bars:
        bar = bars.add_task("kills and full disks", total=given.kills + given.full)
        references = [whole(case, Path(place, case.name)) for case in CASES]
        told = runs = 0
        for _ in until(references, Path(place), draw, given.kills, given.full, given.most, counts):
            bars.advance(bar)
            if counts.runs > runs:
                runs = counts.runs
                bars.console.print(counts.sentence())
            for line in counts.differences[told:]:
                bars.console.print(f"run {runs} of seed {given.seed}: {line}", markup=False)
            told = len(counts.differences)
    for what, found in (("killed in", counts.killed), ("disk full in", counts.full)):
        print(f"{what}: {', '.join(f'{name} {n}' for name, n in found.most_common())}")
    print(counts.sentence())
    return 1 if counts.differences else 0


if __name__ == "__main__":
    sys.exit(main())
