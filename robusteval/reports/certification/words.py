"""What each kind of guarantee says, in plain words, once; and which certificates of a run it is of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from robusteval.analysis import names, show
from robusteval.analysis.certification import Covered
from robusteval.reports.grid import Grid

NOT_GUARANTEED = (
    "Images outside this list: the shares say, with their intervals, what to expect of others like them, no more.",
    "Perturbations beyond a radius, or measured otherwise: rotations, crops, compression, norms other than named.",
    "Other weights, another preprocessing or arithmetic than those of this model file (fingerprint below).",
    "That the class is right: a radius around a wrong class is worth nothing, and counts as 0 here.",
)
"""What no certificate of any run says."""
WRONG = "wrong class"
"""Instead of a radius: of an image that is given another class than its own nothing is open."""
KINDS = {
    "proof": (
        "Proven",
        "No image with pixels in [0, 1] within distance r of the image gets another class. This is a mathematical "
        "proof: it holds for every attack, known or not, and allows for the rounding of the network's arithmetic.",
        "Radius 0 says nothing: the image may be robust, the proof does not decide it. Images that are misclassified "
        f"as they are read '{WRONG}'.",
    ),
    "confidence": (
        "Certified with confidence",
        "No image within distance r changes the class that the smoothed model gives the image: the class which the "
        "model names most often when Gaussian noise is added. For each image this is wrong with a probability of at "
        "most alpha, from the noise that was drawn.",
        "It does not speak of the model used without that noise. To be protected, classify by the same majority vote. "
        "Of many images a share of alpha may be wrong without any sign of it.",
    ),
    "estimate": (
        "Estimated, not guaranteed",
        "An estimate of how far the image is from another class, from an extreme value fitted to samples of the "
        "model's gradients. It guarantees nothing.",
        "An attack may well succeed within r; where one of this run did, the report lists a contradiction.",
    ),
}
"""Guarantee -> its title, what a radius r means, and what it leaves open."""


@dataclass(frozen=True)
class Statement:
    """One kind of guarantee: its title, what it says of an image with radius r, what it leaves open, and the
    certificates of the run that give it."""

    kind: str
    title: str
    says: str
    leaves_open: str
    certificates: Grid
    notes: tuple[str, ...]
    """What has to be known of single certificates: rounding, answers that were not finite."""


def statements(found: Sequence[Covered]) -> list[Statement]:
    """Each kind of guarantee that the run has, the strongest first."""
    made = []
    for kind, (title, says, leaves_open) in KINDS.items():
        own = [c for c in found if c.record.guarantee == kind]
        if own:
            notes = tuple(note for c in own for note in _notes(c))
            made.append(Statement(kind, title, says, leaves_open, _certificates(title, own), notes))
    return made


def _certificates(title: str, own: Sequence[Covered]) -> Grid:
    doubt = any(c.record.alpha is not None for c in own)
    headings = ["Certificate", "speaks of", *["alpha"] * doubt, "radius above 0", "median of these", WRONG]
    rows = [
        [
            c.title.replace(f" ({c.record.guarantee})", ""),
            names.subject(c.record.subject),
            *([f"{c.record.alpha:g}" if c.record.alpha is not None else "-"] * doubt),
            f"{c.above_zero.count:,} of {c.above_zero.n:,}",
            "-" if c.median is None else show.lower(c.median, c.record.norm),
            f"{c.wrong:,}",
        ]
        for c in own
    ]
    return Grid(title, headings, rows, text=2)


def _notes(c: Covered) -> list[str]:
    rounding = f"{c.title}: {c.rounding}." if c.rounding else ""
    return [note for note in (rounding, str(c.unanswered or "")) if note]
