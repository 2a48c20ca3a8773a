"""The names that people read, and those of one run: methods, norms, guarantees, states of a fit."""

from __future__ import annotations

from collections import Counter
from typing import Any

from robusteval.analysis import show
from robusteval.core.norms import Norm
from robusteval.results.run import Run

METHODS = {
    "activation-maximization": "What the model sees in each class",
    "activation-patterns": "Activation patterns",
    "adef": "ADef",
    "alignment": "Alignment with singular vectors",
    "analytic-moments": "Analytic moments",
    "apgd": "APGD",
    "auto": "Auto",
    "autoattack": "AutoAttack",
    "boundary": "Boundary attack",
    "brendel-bethge": "Brendel-Bethge",
    "carlini-wagner": "Carlini-Wagner",
    "clever": "CLEVER",
    "covariance": "Covariance",
    "crown": "CROWN",
    "ddn": "DDN",
    "deception": "Most deceptive examples",
    "deepfool": "DeepFool",
    "ead": "EAD",
    "fab": "FAB",
    "fgsm": "FGSM",
    "fmn": "FMN",
    "foolbox-ddn": "DDN (foolbox)",
    "foolbox-deepfool": "DeepFool (foolbox)",
    "foolbox-fmn": "FMN (foolbox)",
    "gaussian-noise": "Gaussian noise",
    "gradient-masking": "Gradient masking",
    "hopskipjump": "HopSkipJump",
    "ibp": "IBP",
    "jacobian-spectrum": "Jacobian spectrum",
    "kernels": "Kernels",
    "l-bound": "L-bound",
    "lbfgs": "L-BFGS",
    "linearity": "Linearity",
    "lipschitz": "Lipschitz margin",
    "logbarrier": "LogBarrier",
    "lrc": "LRC",
    "noise": "Noise",
    "omega-bound": "omega-bound",
    "operator-norm": "Operator norms",
    "pgd": "PGD",
    "regularity": "Regularity",
    "salt-and-pepper": "Salt and pepper",
    "smoothed-prediction": "Smoothed prediction",
    "smoothing": "Randomized smoothing",
    "smoothing-envelope": "Smoothing envelope",
    "smoothing-sequential": "Sequential smoothing",
    "softmax-line": "Softmax along the line",
    "square": "Square",
    "targeted-grid": "Targeted attacks, class by class",
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
    7: "fitted, a tail without an end",
}
"""What certify.gev.Fit says, in words."""
STAGES = ("APGD on cross-entropy", "targeted APGD", "targeted FAB", "Square")
"""The stages of the ensemble `auto`, in the order of the measurement `stage`, which counts from 1."""
ALL = "all attacks"
"""The worst case over every attack of a run."""
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
    if "distribution" in settings:
        title = f"{settings['distribution'].capitalize()} {title.lower()}"
    if entry["method"] == "lrc" and "samples" in settings:
        title = f"{title} worst of {settings['samples']}"
        if settings.get("images"):
            title += f", covariance of {settings['images']}"
        elif settings.get("zeta"):
            title += f", zeta {settings['zeta']:g}"
    if settings.get("sigma"):
        title = f"{title}, sigma {settings['sigma']:g}"
    if "-from-" in entry["name"]:
        title = f"{title} from {entry['name'].split('-from-', 1)[1]}"
    if settings.get("target") not in (None, "none"):
        title = f"{title}, {settings['target']} target"
    if settings.get("minimum_distance"):
        title = f"{title}, by bisection"
    if settings.get("of"):
        title = f"{title} of the {settings['of']}"
    if entry["kind"] == "certificate":
        title = f"{title} ({entry['guarantee']})"
    return f"{title}, {Norm(entry['norm']).symbol}" if entry.get("norm") else title


def stages(run: Run) -> dict[str, str]:
    """The title of each stage by its name; where two would read alike, the label follows."""
    found = {entry["name"]: stage(entry) for entry in run.stages()}
    often = Counter(found.values())
    return {name: f"{title} [{name}]" if often[title] > 1 else title for name, title in found.items()}


def norms(run: Run) -> list[str]:
    """All norms, those in which the protocol has budgets first, in its order."""
    return list(dict.fromkeys([*run.manifest["protocol"]["budgets"], *Norm]))


def axis(norm: str) -> str:
    """What an axis of distances says."""
    return "L0 distance (pixel values changed)" if norm == "l0" else f"{Norm(norm).symbol} distance (pixels in [0, 1])"


def at(norm: str, budget: float) -> str:
    """Linf 8/255."""
    return f"{Norm(norm).symbol} {show.budget(budget)}"


def bare(title: str, norm: str) -> str:
    """A title without its norm, for where a heading or an axis names that."""
    return title.removesuffix(f", {Norm(norm).symbol}")


def classes(run: Run) -> list[str]:
    """A name for each class; its number where the data set gives none."""
    given = run.manifest["data"]["class_names"]
    return [given[i] if i < len(given) else str(i) for i in range(run.manifest["model"]["num_classes"])]


def subject(key: str) -> str:
    """The classifier that a bound speaks of, in words."""
    if key.startswith("top-"):
        return f"the model's {key.removesuffix('(f)')} correctness"
    return "the model" if key == "f" else f"the smoothed model {key}"
