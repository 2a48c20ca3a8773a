"""The claims of OpNorm (2020).

    python benchmarks/papers/opnorm.py --data MNIST_FOLDER --out OUT --page docs/papers/opnorm.md

As in the paper: --train-data CIFAR/train.parquet --data CIFAR/test.parquet --training 50000 --images 200 --epochs 100
--crop 4 --flip --arch cnn7-bn-cifar10 --eps 1 --device cuda.
"""

from __future__ import annotations

import time

import numpy as np
from claims import Claim, equal, larger, write
from study import Numbers, Study, options, small

from robusteval.analysis.by_label import ByLabel
from robusteval.core.norms import Norm
from robusteval.defenses.ascent_training import AdversarialTraining
from robusteval.defenses.base import Defense
from robusteval.defenses.global_spectral_norm import GlobalSpectralNorm
from robusteval.defenses.spectral_norm import SpectralNorm
from robusteval.defenses.standard import Standard

SPECTRUM, ALIGNED, REGIONS = "jacobian-spectrum-logits", "alignment-pga-l2", "activation-patterns"


def defenses(eps: float) -> dict[str, Defense]:
    logits = AdversarialTraining(norm=Norm.L2, budget=eps, loss="logits", q=Norm.L2, powered=True, weight=0.1)
    return {
        "standard": Standard(),
        "global-snr": GlobalSpectralNorm(weight=0.01),
        "dd-snr": SpectralNorm(weight=0.1, eps=eps, iterations=5),
        "at": AdversarialTraining(norm=Norm.L2, budget=eps, weight=1.0),
        "logit-at": logits,
    }


def standing(runs: list[ByLabel], budget: float) -> Numbers:
    return np.stack([run.distances("l2", "pga-l2") > budget for run in runs]).astype(np.float64)


def at_images(runs: list[ByLabel], label: str, quantity: str, at: float = 0.0) -> Numbers:
    """(seeds, images)."""
    return np.stack([run.values_of(label, quantity, at).to_numpy() for run in runs])


def unchanged(runs: list[ByLabel], quantity: str) -> Numbers:
    """The share of unchanged ReLUs, over the magnitudes of the noise, (seeds, images)."""
    places = runs[0].places(REGIONS, quantity)
    shares: Numbers = np.mean([at_images(runs, REGIONS, quantity, at) for at in places], axis=0)
    return shares


def main() -> None:
    begun = time.monotonic()
    given = options(__doc__ or "", **small(eps=1.5, epochs=6))
    study = Study("opnorm-2020", defenses(given.eps), given, begun)
    study.train()
    runs = study.audit(list(study.defenses), ["pga-l2", SPECTRUM, ALIGNED, REGIONS])
    write(study, claims(runs, given.eps))


def claims(runs: dict[str, list[ByLabel]], eps: float) -> list[Claim]:
    leading = {name: np.log(at_images(found, SPECTRUM, "singular_value", 1)) for name, found in runs.items()}
    kept = {name: standing(found, eps) for name, found in runs.items()}
    seen, figure, one, two = "visible; no number", "figure 2", leading["global-snr"], leading["dd-snr"]
    rows = [
        larger(f"Leading singular value (log): standard above {n}", figure, seen, leading["standard"], leading[n])
        for n in ("at", "logit-at", "dd-snr")
    ]
    alike = [(name, leading[name]) for name in ("logit-at", "dd-snr")]
    same = [(name, kept[name]) for name in ("logit-at", "dd-snr")]
    at = f"accuracy at L2 {eps:g}"
    rows += [
        equal("Adversarial training and data-dependent SNR dampen it alike (log)", figure, seen, alike, 0.4),
        larger("Global SNR dampens it less than data-dependent SNR", figure, seen, one, two),
        larger("Global SNR dampens it at all", figure, "barely", leading["standard"], one),
        equal(f"They are alike in {at}", "figure 3", seen, same, 0.05),
        larger(f"Data-dependent SNR above standard in {at}", "figure 3", seen, kept["dd-snr"], kept["standard"]),
        larger(f"Data-dependent SNR above global in {at}", "figure 3", seen, kept["dd-snr"], kept["global-snr"]),
    ]
    for name in ("standard", "at", "dd-snr"):
        ours = [np.array([r.measurement(ALIGNED, q, 1) for r in runs[name]]) for q in ("alignment", "alignment_twin")]
        what = f"Perturbations align with the leading right singular vector ({name}): above a random network's"
        rows.append(larger(what, figure, seen, *ours))
    grown = {q: {n: unchanged(r, q) for n, r in runs.items()} for q in ("unchanged_at_data", "unchanged_at_noise")}
    data, noise = grown["unchanged_at_data"], grown["unchanged_at_noise"]
    for name in ("at", "dd-snr"):
        what = f"Constant activations reach further at data ({name})"
        rows.append(larger(what, "figure 5", seen, data[name], data["standard"]))
        gains = (data[name] - data["standard"]).mean(1), (noise[name] - noise["standard"]).mean(1)
        rows.append(larger(f"More so at data than at noise ({name})", "figure 5", seen, *gains))
    return rows


if __name__ == "__main__":
    main()
