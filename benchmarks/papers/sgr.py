"""The claims of SGR (2019).

    python benchmarks/papers/sgr.py --data MNIST_FOLDER --out OUT --page docs/papers/sgr.md

As in the paper: --train-data MNIST_FOLDER:train --data MNIST_FOLDER --training 60000 --images 10000 --epochs 50
--batch-size 128 --crop 4 --arch cnn7-mnist --seeds 5 --device cuda.
"""

from __future__ import annotations

import math
import time

import numpy as np
from claims import Claim, above, alike, chain, interval, together, write
from study import Numbers, Study, options, small

from robusteval.analysis.by_label import ByLabel
from robusteval.defenses.base import Defense
from robusteval.defenses.perturbed_augmentation import PerturbedAugmentation
from robusteval.defenses.sgr import SGR
from robusteval.defenses.standard import Standard
from robusteval.defenses.weight_decay import WeightDecay

LIMIT = 32 / 255
GRID = np.linspace(0, LIMIT, 33)
EPS = 0.3
DEFENSES: dict[str, Defense] = {
    "clean": Standard(),
    "weight-decay": WeightDecay(decay=0.005),
    "gn": SGR(source="identity", weight=10.0),
    "sgr": SGR(source="gradients", weight=3.0),
    "sgr-signs": SGR(source="signs", weight=3.0),
    "sgr-pgd": SGR(source="pgd", weight=3.0, budget=LIMIT, every=10),
    "sgr-matrix": SGR(source="gradients", representation="matrix", weight=3.0),
    "fgsm": PerturbedAugmentation(perturbation="fgsm", budget=LIMIT),
    "pgd": PerturbedAugmentation(perturbation="pgd", budget=LIMIT),
    "sgr-lrc": SGR(source="lrc", zeta=8.0, weight=3.0),
    "sgr-images": SGR(source="images", weight=3.0),
    "lrc-augmented": PerturbedAugmentation(perturbation="lrc", budget=EPS, zeta=8.0),
}


def area(runs: list[ByLabel], label: str = "pgd") -> Numbers:
    """Accuracy under an attack, averaged over budgets up to 32/255, image by image, (seeds, images)."""
    far = np.stack([run.distances("linf", label) for run in runs])
    kept: Numbers = (far[:, :, None] > GRID).mean(2)
    return kept


def standing(runs: list[ByLabel], label: str) -> Numbers:
    """Right under the worst of 100 at a root mean square of EPS, (seeds, images)."""
    far = np.stack([run.distances("l2", label) for run in runs])
    return (far > EPS * math.sqrt(runs[0].values)).astype(np.float64)


def main() -> None:
    begun = time.monotonic()
    study = Study("sgr-2019", DEFENSES, options(__doc__ or "", **small()), begun)
    study.train()
    sources = {"clean": ["sgr", "gn", "pgd", "fgsm"]}
    white = study.audit([n for n in DEFENSES if "lrc" not in n and n != "sgr-images"], ["pgd"], part="white-box")
    lined = study.audit(["clean", "sgr", "gn"], ["pgd", "covariance-pgd", "softmax-line"], part="lines")
    moved = study.audit(["clean"], ["transfer"], sources, part="transfer")
    long = study.audit(["clean", "gn", "sgr-lrc", "sgr-images", "lrc-augmented"], ["lrc-1", "lrc-16"], part="lrc")
    write(study, list(claims(white, lined, moved, long)))


def claims(
    white: dict[str, list[ByLabel]],
    lined: dict[str, list[ByLabel]],
    moved: dict[str, list[ByLabel]],
    long: dict[str, list[ByLabel]],
) -> list[Claim]:
    lengths = [
        np.array([run.statistic("covariance-pgd", f"{of}decay_length_0_0") for run in lined["clean"]])
        for of in ("data_", "")
    ]
    found, verdict = above(*lengths)
    rows = [
        Claim(
            "Covariances of perturbations decay faster than the data's",
            "figures 1, 2",
            "visible; no number",
            f"decay length {lengths[1].mean():.2f} against {lengths[0].mean():.2f} pixels, difference {found}",
            verdict,
        )
    ]
    far = {name: standing(runs, "lrc-16") for name, runs in long.items()}
    near = {name: standing(runs, "lrc-1") for name, runs in long.items()}

    def compared(what: str, a: str, b: str, paper: str, where: str = "figure 3") -> Claim:
        found, verdict = above(far[a], far[b])
        ours = f"{far[a].mean():.3f} against {far[b].mean():.3f}, difference {found}"
        return Claim(what, where, paper, ours, verdict)

    rows += [
        compared(
            "Long-range noise, zeta 16, eps 0.3: SGR (LRC covariance) beats GN", "sgr-lrc", "gn", "over 0.25 more"
        ),
        compared("The same with the data's covariance", "sgr-images", "gn", "0.658 against 0.487", "section 4.3"),
        compared(
            "SGR (data's) beats augmentation with LRC noise", "sgr-images", "lrc-augmented", "0.658 against 0.579"
        ),
        compared("GN beats clean training", "gn", "clean", "0.487 against 0.465"),
    ]
    found, verdict = above(far["sgr-lrc"] - far["gn"], near["sgr-lrc"] - near["gn"])
    rows.append(
        Claim(
            "The advantage over GN shrinks as zeta falls (16 against 1)",
            "figure 3",
            "approaches GN",
            f"advantage {np.mean(far['sgr-lrc'] - far['gn']):.3f} at 16, {np.mean(near['sgr-lrc'] - near['gn']):.3f} "
            f"at 1, difference {found}",
            verdict,
        )
    )
    areas = {name: area(runs) for name, runs in white.items()}
    order = [(name, areas[name]) for name in ("clean", "weight-decay", "gn", "fgsm", "pgd")]
    ours, verdict = chain(order)
    paper = "78.3, 92.5, 96.5, 98.5, 99.1 %"
    rows.append(
        Claim("Area under PGD to 32/255 rises: clean, weight decay, GN, FGSM, PGD", "table 1", paper, ours, verdict)
    )
    found, verdict = above(areas["sgr"], areas["clean"])
    ours = f"{areas['sgr'].mean():.3f} against {areas['clean'].mean():.3f}, difference {found}"
    rows.append(Claim("SGR beats clean training under PGD", "table 1", "0.966 against 0.783", ours, verdict))

    def equal(what: str, names: list[str], paper: str, where: str) -> Claim:
        held = [alike(areas[name], areas[names[0]], 0.03) for name in names[1:]]
        means = ", ".join(f"{name} {areas[name].mean():.3f}" for name in names)
        ours = f"{means}; differences {', '.join(str(f) for f, _ in held)}; margin 0.03"
        return Claim(what, where, paper, ours, together([v for _, v in held]))

    rows += [
        equal("SGR and GN are about equal under PGD", ["gn", "sgr"], "0.966 and 0.965", "table 1"),
        equal(
            "Gradients, signs and PGD perturbations give the same SGR",
            ["sgr", "sgr-signs", "sgr-pgd"],
            "identical",
            "4.1",
        ),
        equal("No loss with covariance functions for the full matrix", ["sgr-matrix", "sgr"], "none", "section 4.4"),
    ]
    under = {s: area(moved["clean"], _stage(moved["clean"][0], s)) for s in ("sgr", "gn", "pgd", "fgsm")}
    held = [above(under[trained], under[ours]) for ours in ("sgr", "gn") for trained in ("pgd", "fgsm")]
    means = ", ".join(f"from {name} {v.mean():.3f}" for name, v in under.items())
    rows.append(
        Claim(
            "Transfers from SGR and GN hurt the clean model more than those from PGD and FGSM training",
            "table 1",
            "CIFAR-10: 0.603, 0.619 against 0.770, 0.819",
            f"{means}; differences {', '.join(str(f) for f, _ in held)}",
            together([v for _, v in held]),
        )
    )
    lines = {
        name: np.array([r.statistic("softmax-line", "variation", 5) for r in runs]) for name, runs in lined.items()
    }
    found, verdict = above(lines["clean"], lines["sgr"])
    ours = f"total variation {lines['sgr'].mean():.2f} against {lines['clean'].mean():.2f}, difference {found}"
    rows.append(Claim("Softmax along the line is smoother under SGR", "figure 6", "visible; no number", ours, verdict))
    tests = ", ".join(
        f"{n} {interval([r.clean for r in runs])}" for n, runs in white.items() if n in ("clean", "gn", "sgr")
    )
    rows.append(Claim("Clean accuracy is kept", "table 1", "99.4; GN 99.5; SGR 99.6 %", tests, _kept(white)))
    return rows


def _stage(run: ByLabel, source: str) -> str:
    """The transfer stage from a source model, whose name ends in its seed."""
    return next(e.name for e in run.attacks_ran if e.source and e.source.rpartition("-")[0] == source)


def _kept(white: dict[str, list[ByLabel]]) -> str:
    right = {
        n: np.stack([r.images.sort_values("image_id")["correct"] for r in white[n]]) for n in ("clean", "gn", "sgr")
    }
    return together([alike(right[n].astype(float), right["clean"].astype(float), 0.02)[1] for n in ("gn", "sgr")])


if __name__ == "__main__":
    main()
