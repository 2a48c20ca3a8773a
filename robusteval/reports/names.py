"""The names that people read, and those of one run: methods, norms, guarantees, states of a fit."""

from __future__ import annotations

from collections import Counter
from typing import Any

from robusteval.audit.run import Run

NORMS = {"l1": "L1", "l2": "L2", "linf": "Linf"}
METHODS = {
    "autoattack": "AutoAttack",
    "boundary": "Boundary attack",
    "carlini-wagner": "Carlini-Wagner",
    "deepfool": "DeepFool",
    "fgsm": "FGSM",
    "gaussian-noise": "Gaussian noise",
    "jacobian-spectrum": "Jacobian spectrum",
    "l-bound": "L-bound",
    "lrc": "LRC",
    "omega-bound": "omega-bound",
    "pgd": "PGD",
    "smoothing": "Randomized smoothing",
    "transfer": "Transfer",
    "uniform-noise": "Uniform noise",
}
FITS = {
    0: "fitted",
    1: "fitted, raised to the largest value seen",
    2: "shape at the limit of the search, tail not to be trusted",
    3: "too few maxima, the largest value seen",
    4: "maxima tied, the largest value seen",
    5: "fit failed, the largest value seen",
    6: "a maximum is not finite",
}
"""What certify.gev.Fit says, in words."""
CLEAN = "the image itself"
"""What found the witness of an image that is misclassified as it is."""


def method(key: str) -> str:
    """The title of a method; a readable form of its key if it is not known here."""
    return METHODS.get(key) or key.replace("-", " ").capitalize()


def stage(entry: dict[str, Any]) -> str:
    """The title of a stage: "PGD, Linf", "L-bound (estimate), L2"."""
    if entry["kind"] == "clean":
        return "Clean predictions"
    settings = entry.get("settings", {})
    title = method(entry["method"])
    if entry["method"] == "lrc" and "samples" in settings:
        title = f"{title} worst of {settings['samples']}"
    if entry["method"] == "smoothing" and "sigma" in settings:
        title = f"{title}, sigma {settings['sigma']:g}"
    if "-from-" in entry["name"]:
        title = f"{title} from {entry['name'].split('-from-', 1)[1]}"
    if settings.get("target"):
        title = f"{title}, {settings['target']} target"
    if entry["kind"] == "certificate":
        title = f"{title} ({entry['guarantee']})"
    return f"{title}, {NORMS[entry['norm']]}" if entry.get("norm") else title


def stages(run: Run) -> dict[str, str]:
    """The title of each stage by its name; where two would read alike, the label follows."""
    found = {entry["name"]: stage(entry) for entry in run.stages()}
    often = Counter(found.values())
    return {name: f"{title} [{name}]" if often[title] > 1 else title for name, title in found.items()}


def bare(title: str, norm: str) -> str:
    """A title without its norm, for where a heading or an axis names that."""
    return title.removesuffix(f", {NORMS[norm]}")


def classes(run: Run) -> list[str]:
    """A name for each class; its number where the data set gives none."""
    given = run.manifest["data"]["class_names"]
    return [given[i] if i < len(given) else str(i) for i in range(run.manifest["model"]["num_classes"])]


def subject(key: str) -> str:
    """The classifier that a bound speaks of, in words."""
    return "the model" if key == "f" else f"the smoothed model {key}"
