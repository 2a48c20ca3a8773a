"""A paper's claims held against what was measured: intervals over seeds and images, and a verdict by a stated test."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import date
from itertools import pairwise

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import norm, t
from study import Study, command, machine

HEADING = "## What came out"
REPRODUCED, OPEN, CONTRADICTED = "reproduced", "not at this size", "contradicted"
TEST = (
    "Verdicts: of each claim that one number is larger than another, the difference is taken image by image and seed "
    "by seed. Its 95 % interval adds, in squares, Student's over the seeds' means and the normal one over the images: "
    "seeds are few, so it is wide. Reproduced: the interval lies on the claimed side of zero. Contradicted: on the "
    "other side. Not at this size: it holds zero. Of a claim that two numbers are about equal: reproduced if the "
    "interval lies within the margin named, contradicted if outside. A claim of several parts is reproduced if all "
    "are, contradicted if one is."
)


@dataclass(frozen=True)
class Interval:
    """An estimate and its 95 % interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.3g} [{self.low:.3g}, {self.high:.3g}]"


@dataclass(frozen=True)
class Claim:
    """One row of the table."""

    what: str
    where: str
    paper: str
    ours: str
    verdict: str


def interval(values: ArrayLike) -> Interval:
    """The mean of values (seeds, images), or (seeds,), and its 95 % interval; of one seed without end."""
    v = np.asarray(values, dtype=np.float64)
    v = v[:, None] if v.ndim == 1 else v
    seeds, images = v.shape
    over_seeds = t.ppf(0.975, seeds - 1) * v.mean(1).std(ddof=1) / np.sqrt(seeds) if seeds > 1 else np.inf
    over_images = norm.ppf(0.975) * v.mean(0).std(ddof=1) / np.sqrt(images) if images > 1 else 0.0
    mean, half = float(v.mean()), float(np.hypot(over_seeds, over_images))
    return Interval(mean, mean - half, mean + half)


def above(a: ArrayLike, b: ArrayLike) -> tuple[Interval, str]:
    """Whether a, (seeds, images), is above b: the interval of the difference, and the verdict."""
    found = interval(np.asarray(a, dtype=np.float64) - np.asarray(b, dtype=np.float64))
    if found.low > 0:
        return found, REPRODUCED
    return found, CONTRADICTED if found.high < 0 else OPEN


def alike(a: ArrayLike, b: ArrayLike, margin: float) -> tuple[Interval, str]:
    """Whether a and b differ by less than a margin."""
    found = interval(np.asarray(a, dtype=np.float64) - np.asarray(b, dtype=np.float64))
    if -margin < found.low and found.high < margin:
        return found, REPRODUCED
    return found, CONTRADICTED if found.low > margin or found.high < -margin else OPEN


def together(verdicts: Sequence[str]) -> str:
    """Of a claim of several parts."""
    if CONTRADICTED in verdicts:
        return CONTRADICTED
    return REPRODUCED if all(v == REPRODUCED for v in verdicts) else OPEN


def chain(named: Sequence[tuple[str, NDArray[np.float64]]], scale: float = 100.0) -> tuple[str, str]:
    """Of numbers said to rise in this order: their means, each step's interval, and the verdict."""
    means = ", ".join(f"{name} {scale * float(np.mean(v)):.1f}" for name, v in named)
    steps = [above(b, a) for (_, a), (_, b) in pairwise(named)]
    shown = "; ".join(f"{scale * s.value:+.1f} [{scale * s.low:.1f}, {scale * s.high:.1f}]" for s, _ in steps)
    return f"{means}; steps {shown}", together([v for _, v in steps])


def larger(what: str, where: str, paper: str, a: ArrayLike, b: ArrayLike) -> Claim:
    """The claim that a is larger than b, (seeds, images) or (seeds,)."""
    found, verdict = above(a, b)
    ours = f"{np.mean(np.asarray(a)):.3g} against {np.mean(np.asarray(b)):.3g}, difference {found}"
    return Claim(what, where, paper, ours, verdict)


def equal(what: str, where: str, paper: str, named: Sequence[tuple[str, ArrayLike]], margin: float) -> Claim:
    """The claim that the others are about equal to the first."""
    held = [alike(values, named[0][1], margin) for _, values in named[1:]]
    means = ", ".join(f"{name} {np.mean(np.asarray(values)):.3g}" for name, values in named)
    ours = f"{means}; differences {', '.join(str(f) for f, _ in held)}; margin {margin:g}"
    return Claim(what, where, paper, ours, together([v for _, v in held]))


def write(study: Study, claims: Sequence[Claim], more: str = "") -> None:
    """Print the table; write it as JSON into OUT, and into the page if one is named."""
    o, minutes = study.options, study.minutes()
    when = f"{date.today().isoformat()}, {minutes:.0f} minutes on {machine()}"
    facts = " ".join(part for part in (f"`{command()}`, {when}; {study.facts}.", more) if part)
    head = ["claim", "where", "paper", "here", "verdict"]
    rows = [[c.what, c.where, c.paper, c.ours, c.verdict] for c in claims]
    lines = [[cell.replace("|", "\\|") for cell in row] for row in (head, ["---"] * 5, *rows)]
    table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    text = f"{HEADING}\n\n{facts}\n\n{table}\n\n{TEST}\n"
    print(text)
    data = {"facts": facts, "claims": [asdict(c) for c in claims]}
    (o.out / "claims.json").write_text(json.dumps(data, indent=2) + "\n", encoding="utf-8", newline="\n")
    if o.page:
        before = o.page.read_text(encoding="utf-8").partition(HEADING)[0]
        o.page.write_text(before + text, encoding="utf-8", newline="\n")
