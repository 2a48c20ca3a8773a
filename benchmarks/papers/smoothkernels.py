"""The claims of SmoothKernels (2020).

    python benchmarks/papers/smoothkernels.py --data MNIST_FOLDER --out OUT --page docs/papers/smoothkernels.md

As in the paper: --train-data MNIST_FOLDER:train --data MNIST_FOLDER --training 60000 --images 10000 --epochs 100
--arch smoothkernels-cnn --budget 0.3 --steps 40 --weight 100 --all-attacks --device cuda.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
from claims import Claim, above, larger, write
from study import Numbers, Study, options, small

from robusteval.analysis.by_label import ByLabel
from robusteval.analysis.metrics.kernels import layers
from robusteval.analysis.metrics.measured import measured_stages
from robusteval.defenses.base import Defense
from robusteval.defenses.smooth_kernels import SmoothKernels

BASES = "VTAL"
ATTACKS = {"FGSM": "fgsm", "PGD": "pgd", "DF(L2)": "deepfool-l2", "DF(Linf)": "deepfool-linf"}
SLOW = {"C&W": "carlini-wagner", "ADef": "adef", "S&P": "salt-and-pepper"}


def defenses(given: argparse.Namespace) -> dict[str, Defense]:
    """V, T, A, L, each bare, with R and with its control H."""

    def of(base: str, weight: float) -> SmoothKernels:
        return SmoothKernels(base=base, weight=weight, budget=given.budget, steps=given.steps)

    weights = {"": 0.0, "R": given.weight, "H": -given.weight}
    return {f"{base}{kind}": of(base, weight) for base in BASES for kind, weight in weights.items()}


def standing(runs: list[ByLabel], label: str, limit: float) -> Numbers:
    return np.stack([run.distances("linf", label) > limit for run in runs]).astype(np.float64)


def roughness(runs: list[ByLabel]) -> Numbers:
    """R0 over the sum of squared weights, the mean over the layers, (seeds,)."""
    stages = [next(iter(measured_stages(run, "kernels"))) for run in runs]
    return np.array([layers(stage)["smoothness_normalised"].mean() for stage in stages])


def main() -> None:
    begun = time.monotonic()
    small_size = small(epochs=5, images=150, budget=0.1, steps=5, weight=10.0, all_attacks=False)
    given = options(__doc__ or "", **small_size)
    attacks = ATTACKS | (SLOW if given.all_attacks else {})
    study = Study("smoothkernel-2020", defenses(given), given, begun)
    study.train()
    runs = study.audit(list(study.defenses), [*attacks.values(), "kernels"])
    write(study, claims(runs, attacks, given.budget))


def claims(runs: dict[str, list[ByLabel]], attacks: dict[str, str], limit: float) -> list[Claim]:
    kept = {n: {a: standing(found, label, limit) for a, label in attacks.items()} for n, found in runs.items()}
    rough = {name: roughness(found) for name, found in runs.items()}
    where = f"table 1, Linf {limit:g}"
    rows = [_signs(kept, attacks, where)]
    for attack, paper in (("PGD", "CIFAR-10: 0.58 against 0.55"), ("DF(Linf)", "CIFAR-10: 0.57 against 0.48")):
        rows.append(larger(f"A to AR under {attack}", where, paper, kept["AR"][attack], kept["A"][attack]))
    for b in BASES:
        rows.append(larger(f"R makes kernels smoother ({b})", "figure 1", "visible", rough[b], rough[f"{b}R"]))
        rows.append(larger(f"H makes kernels rougher ({b})", "figure 1", "visible", rough[f"{b}H"], rough[b]))
    for base in BASES:
        pair = (np.mean([kept[f"{base}{kind}"][a] for a in attacks], axis=0) for kind in "RH")
        rows.append(larger(f"R is more robust than H ({base}, mean over attacks)", "section 4.2", "more", *pair))
    return rows


def _signs(kept: dict[str, dict[str, Numbers]], attacks: dict[str, str], where: str) -> Claim:
    """Over bases and attacks: how many are better, worse, equal under R; tested by the mean change over all of them,
    since the cells of one model rise and fall together."""
    changes = [kept[f"{base}R"][a] - kept[base][a] for base in BASES for a in attacks]
    means = [float(change.mean()) for change in changes]
    better, worse = sum(m > 0 for m in means), sum(m < 0 for m in means)
    found, verdict = above(np.mean(changes, axis=0), np.zeros_like(changes[0]))
    ours = f"{better}/{worse}/{len(means) - better - worse}, mean change {found}"
    paper = "MNIST 18/5/5, Fashion-MNIST 23/4/1, CIFAR-10 16/5/7, Restricted ImageNet 13/8/0"
    return Claim("R against its base over the attacks: better/worse/equal", where, paper, ours, verdict)


if __name__ == "__main__":
    main()
