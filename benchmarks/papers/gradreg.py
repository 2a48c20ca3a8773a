"""The claims of GradReg (2020).

    python benchmarks/papers/gradreg.py --data MNIST_FOLDER --out OUT --page docs/papers/gradreg.md

As in the paper: --train-data CIFAR/train.parquet --data CIFAR/test.parquet --training 50000 --images 1000 --epochs 200
--batch-size 128 --crop 4 --flip --arch resnext34-2x32 --budgets 0.0078,0.0314 --weights 0.1,1 --device cuda.
"""

from __future__ import annotations

import time

import numpy as np
from claims import Claim, chain, larger, write
from study import Numbers, Study, options, small

from robusteval.analysis.by_label import ByLabel
from robusteval.core.norms import Norm
from robusteval.defenses.adversarial import PGDTraining
from robusteval.defenses.base import Defense
from robusteval.defenses.free_training import FreeTraining
from robusteval.defenses.gradient_regularization import GradientRegularization
from robusteval.defenses.standard import Standard

STEPS = (1e-4, 1e-3, 1e-2, 0.1, 1.0)
"""h of table 4."""


def penalised(weight: float, h: float = 0.1, norm: Norm = Norm.LINF) -> GradientRegularization:
    return GradientRegularization(norm=norm, weight=weight, h=h)


def exact(weight: float) -> GradientRegularization:
    return GradientRegularization(norm=Norm.LINF, weight=weight, by="double-backpropagation")


def defenses(budgets: tuple[float, float], weights: tuple[float, float]) -> dict[str, Defense]:
    (near, far), (weak, strong) = budgets, weights
    return {
        "undefended": Standard(),
        "at-near": PGDTraining(budget=near),
        "at-far": PGDTraining(budget=far),
        "free-2": FreeTraining(budget=far, replays=2),
        "free-8": FreeTraining(budget=far, replays=8),
        "dbp-weak": exact(weak),
        "dbp-strong": exact(strong),
        "fd-weak": penalised(weak),
        **{f"fd-strong-{h:g}": penalised(strong, h) for h in STEPS},
        "fd-l2": penalised(strong, norm=Norm.L2),
    }


def standing(runs: list[ByLabel], budget: float) -> Numbers:
    """Right and without a witness within the budget, (seeds, images)."""
    return np.stack([run.distances("linf", "pgd-linf") > budget for run in runs]).astype(np.float64)


def distance(runs: list[ByLabel]) -> Numbers:
    """The closest L2 witness, (seeds, images); where none was found, twice the largest that was."""
    far = np.stack([run.distances("l2") for run in runs])
    return np.where(np.isfinite(far), far, 2 * far[np.isfinite(far)].max())


def main() -> None:
    begun = time.monotonic()
    given = options(__doc__ or "", **small(budgets="0.03,0.1", weights="1,10"))
    budgets, weights = (tuple(map(float, text.split(","))) for text in (given.budgets, given.weights))
    study = Study("gradreg-2020", defenses(budgets, weights), given, begun)  # type: ignore[arg-type]
    study.train()
    runs = study.audit(list(study.defenses), ["pgd-linf"], part="linf")
    near = study.audit(["undefended", "at-far", "fd-l2"], ["pgd-l2", "l-bound-l2"], part="l2")
    rows = claims(runs, near, budgets[1])
    took = study.timed(["dbp-strong", "fd-strong-0.1", "at-far"])
    table, dbp, fd = "table 1", took["dbp-strong"] / took["fd-strong-0.1"], took["at-far"] / took["fd-strong-0.1"]
    rows.append(larger("An update by DBP takes longer than by FD (ratio, against 1)", table, "2", dbp, 0 * dbp + 1))
    rows.append(larger("Adversarial training takes longer than FD (the same)", table, "2.3", fd, 0 * fd + 1))
    write(study, rows)


def claims(runs: dict[str, list[ByLabel]], near: dict[str, list[ByLabel]], budget: float) -> list[Claim]:
    kept = {name: standing(found, budget) for name, found in runs.items()}
    far = {name: distance(found) for name, found in near.items()}
    best = "fd-strong-0.1"
    where, at = "table 1", f"Linf {budget:g}"
    ours, verdict = chain([(name, kept[name]) for name in ("undefended", "dbp-strong", best, "at-far")])
    rows = [
        Claim(
            f"Robust accuracy at {at} rises: undefended, L1 DBP, L1 FD (h = 0.1), adversarial training",
            where,
            "1.1, 19.6, 41.3, 54.0 % at 8/255",
            ours,
            verdict,
        ),
        larger(
            "FD beats DBP at the smaller lambda too", where, "29.6 against 2.7 %", kept["fd-weak"], kept["dbp-weak"]
        ),
        larger("More lambda is more robust (FD)", where, "41.3 against 29.6 %", kept[best], kept["fd-weak"]),
        larger("The same (DBP)", where, "19.6 against 2.7 %", kept["dbp-strong"], kept["dbp-weak"]),
        larger("AT beats free training (m = 8)", where, "54.0 against 38.5 %", kept["at-far"], kept["free-8"]),
        larger("Free (m = 2) beats no defense", where, "36.1 against 1.1 %", kept["free-2"], kept["undefended"]),
    ]
    for h, share in {1e-4: 15.8, 1e-3: 21.4, 1e-2: 30.1, 1.0: 16.1}.items():
        what, paper = f"h = 0.1 beats h = {h:g}", f"41.3 against {share} %"
        rows.append(larger(what, "table 4", paper, kept[best], kept[f"fd-strong-{h:g}"]))
    clean = {name: np.stack([r.distances("linf", "pgd-linf") > 0 for r in found]) for name, found in runs.items()}
    error = "clean error 9.0 against 39.7 %"
    rows += [
        larger("A small h costs clean accuracy (1e-4)", "table 4", error, clean[best], clean["fd-strong-0.0001"]),
        larger(
            "Mean L2 distance: FD above undefended", "table 2", "0.81 against 0.12", far["fd-l2"], far["undefended"]
        ),
        larger("Mean L2 distance: FD above AT", "table 2", "0.81 against 0.74", far["fd-l2"], far["at-far"]),
    ]
    for quantity, paper in (("mean", "3.05 to 0.35"), ("max", "122 to 1.3")):
        before, after = (gradients(near[name], quantity) for name in ("undefended", "fd-l2"))
        rows.append(larger(f"The gradient falls under L2 FD: {quantity} |grad|", "table 3", paper, before, after))
    return rows


def gradients(runs: list[ByLabel], which: str) -> Numbers:
    """Of the modified loss, (seeds,)."""
    if which == "mean":
        return np.array([run.measurement("l-bound-l2", "gradient_norm") for run in runs])
    return np.array([run.statistic("l-bound-l2", "observed_maximum") for run in runs])


if __name__ == "__main__":
    main()
