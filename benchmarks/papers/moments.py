"""The claims of Moments (2020).

    python benchmarks/papers/moments.py --data MNIST_FOLDER --out OUT --page docs/papers/moments.md

As in the paper: --train-data MNIST_FOLDER:train --data MNIST_FOLDER --training 60000 --images 10000 --epochs 100
--learning-rate 1e-4 --arch lenet --device cuda.
"""

from __future__ import annotations

import time

import numpy as np
from claims import Claim, chain, equal, larger, write
from study import Numbers, Study, options, small

from robusteval.analysis.by_label import ByLabel
from robusteval.defenses.base import Defense
from robusteval.defenses.gaussian_augmentation import GaussianAugmentation
from robusteval.defenses.moment_regularization import MomentRegularization
from robusteval.defenses.standard import Standard

SIGMAS = (0.125, 0.25, 0.5, 1.0)
FOLDS = (2, 6)
DEFENSES: dict[str, Defense] = {
    "baseline": Standard(),
    **{f"moments-{sigma:g}": MomentRegularization(sigma=sigma, weight=1.0) for sigma in SIGMAS},
    "moments-1-strong": MomentRegularization(sigma=1.0, weight=5.0),
    **{f"augmented-{n}": GaussianAugmentation(sigma=0.25, folds=n) for n in FOLDS},
}


def noise(runs: list[ByLabel]) -> Numbers:
    """Predictions kept under Gaussian noise, the mean over its standard deviations in [0, 0.5], (seeds, images)."""
    return np.stack([run.values_of("gaussian-noise", "noise_area_single").to_numpy() for run in runs])


def right(runs: list[ByLabel]) -> Numbers:
    return np.stack([run.images["correct"] for run in runs]).astype(np.float64)


def energy(runs: list[ByLabel], label: str) -> Numbers:
    """The logarithm of the squared L2 distance over the pixels of each image's witness, zero ones at 1e-6."""
    far = np.stack([run.distances("l2", label) for run in runs])
    found = np.where(np.isfinite(far), far, far[np.isfinite(far)].max())
    logs: Numbers = np.log10(np.maximum(found**2 / runs[0].values, 1e-6))
    return logs


def main() -> None:
    begun = time.monotonic()
    study = Study("moments-2020", DEFENSES, options(__doc__ or "", **small()), begun)
    study.train()
    runs = study.audit(list(DEFENSES), ["gaussian-noise", "pgd", "deepfool"])
    took = study.timed(["baseline", "moments-1", "augmented-6"])
    moments, folds = (took[name] / took["baseline"] for name in ("moments-1", "augmented-6"))
    what = "It costs less than 6-fold augmentation (updates of the baseline: augmentation against it)"
    write(study, [*claims(runs), larger(what, "section 3", "about 2 forward passes against N", folds, moments)])


def claims(runs: dict[str, list[ByLabel]]) -> list[Claim]:
    kept, correct = ({name: measure(found) for name, found in runs.items()} for measure in (noise, right))
    best = "moments-1"
    ours, verdict = chain([(name, kept[name]) for name in ("baseline", "moments-0.125", best)])
    paper = "77.5, 93.1, 97.3 % (LeNet, MNIST)"
    rows = [Claim("Noise robustness rises with sigma: baseline, 0.125, 1", "table 1", paper, ours, verdict)]
    rows += [
        larger(f"Sigma {s:g} above the baseline", "table 1", "more", kept[f"moments-{s:g}"], kept["baseline"])
        for s in SIGMAS
    ]
    accuracies = [(name, correct[name]) for name in ("baseline", *(f"moments-{s:g}" for s in SIGMAS))]
    rows += [
        larger("A larger alpha (5, sigma 1) above alpha 1", "figure 2", "more", kept["moments-1-strong"], kept[best]),
        equal("At about equal accuracy", "figure 3", "within 0 points (MNIST)", accuracies, 0.02),
        larger(
            "Augmentation (6-fold) is more robust than none", "figure 2", "more", kept["augmented-6"], kept["baseline"]
        ),
        larger("Augmentation: 6-fold above 2-fold", "figure 2", "more", kept["augmented-6"], kept["augmented-2"]),
        larger("The regularizer matches or beats augmentation", "figure 3", "21-fold", kept[best], kept["augmented-6"]),
    ]
    for label, name in (("pgd", "PGD"), ("deepfool", "DeepFool")):
        pair = energy(runs[best], label), energy(runs["baseline"], label)
        rows.append(
            larger(f"Energy of {name}'s perturbations grows (log10)", "table 1", "by orders of magnitude", *pair)
        )
    return rows


if __name__ == "__main__":
    main()
