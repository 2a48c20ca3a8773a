"""The minimum distances that robusteval's own attacks find, against those of foolbox's given the same evaluations.

    python benchmarks/distances.py DATA MODEL... --arch lenet5 [--images 500] [--norms l0 l1 l2 linf]

For each foolbox attack: the best own attack among those that took no more image evaluations (forward and backward, an
image on average), with the mean distance over all images that both found, the failures of each, and the costs. Own
attacks run at several lengths, so that each cost has a rival. Exits with 1 if a foolbox attack has a smaller mean than
every own attack of its cost.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch

from measuring import Outcome, arguments, correct_images, measure, open_model
from robusteval.attacks import ATTACKS
from robusteval.attacks.base import Attack
from robusteval.core.norms import Norm


def own(norm: Norm) -> list[tuple[str, Attack]]:
    """robusteval's own minimum-distance attacks in a norm, from the cheapest to the longest."""

    def make(name: str, **settings: object) -> tuple[str, Attack]:
        shown = ", ".join(f"{k}={v}" for k, v in settings.items() if k != "minimum_distance")
        return f"{name} {shown}".strip(), ATTACKS[name](norm=norm, **settings)

    found = [make("fmn", steps=s) for s in (20, 50, 95, 200, 400)]
    if norm is Norm.L0:
        return found
    found += [make("fab", iterations=i) for i in (5, 10, 20)]
    found += [make("fab", iterations=i, targets=9) for i in (5, 10, 20)]
    found += [make("apgd", iterations=20, loss="dlr", minimum_distance=True)]
    if norm is not Norm.L1:
        found += [make("deepfool"), make("logbarrier", outer=8, steps=50)]
    if norm is Norm.L2:
        found += [make("ddn", steps=s) for s in (10, 20, 50, 95, 300)]
    return found


def foreign(norm: Norm) -> list[tuple[str, Attack]]:
    """foolbox's minimum-distance attacks in a norm, at the library's defaults but for the longest ones."""
    settings: dict[str, dict[str, object]] = {
        "carlini-wagner": {"steps": 200, "binary_search_steps": 5},
        "ead": {"steps": 200, "binary_search_steps": 5},
        "boundary": {"steps": 1000},
        "hopskipjump": {"steps": 8},
        "brendel-bethge": {"steps": 50},
    }
    names = ["foolbox-deepfool", "foolbox-ddn", "foolbox-fmn", "carlini-wagner", "ead", "brendel-bethge", "boundary"]
    names += ["hopskipjump", "salt-and-pepper"]
    return [
        (name, ATTACKS[name].model_validate({"norm": norm, **settings.get(name, {})}))
        for name in names
        if norm in ATTACKS[name].norms
    ]


def compare(rival: Outcome, mine: Outcome) -> tuple[float, float]:
    """Mean distances over the images that both found."""
    both = np.isfinite(rival.distances) & np.isfinite(mine.distances)
    return float(rival.distances[both].mean()), float(mine.distances[both].mean())


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("models", nargs="+")
    parser.add_argument("--norms", nargs="*", default=["l0", "l1", "l2", "linf"])
    options = parser.parse_args()
    print(f"{torch.get_num_threads()} threads, torch {torch.__version__}, {options.images} correctly classified images")
    print("| model | norm | foolbox attack | mean | failed | evals | s | best own within its evals | mean | failed |")
    print("| --- | --- | --- | ---: | ---: | ---: | ---: | --- | ---: | ---: |")
    beaten = 0
    for path in options.models:
        classifier = open_model(path, options.arch, options.data)
        images = correct_images(classifier, options.data, options.images)
        for norm in map(Norm, options.norms):
            mine = {name: measure(attack, classifier, images) for name, attack in own(norm)}
            for label, outcome in mine.items():
                found = outcome.distances[np.isfinite(outcome.distances)]
                print(
                    f"# {Path(path).stem} {norm.symbol} {label}: mean {found.mean():.4f}, {1 - outcome.fooled:.3f} "
                    f"failed, {outcome.evaluations:.0f} evaluations, {outcome.seconds:.1f} s",
                    flush=True,
                )
            for label, attack in foreign(norm):
                rival = measure(attack, classifier, images)
                affordable = {k: o for k, o in mine.items() if o.evaluations <= rival.evaluations}
                ranked = sorted(affordable, key=lambda k: (1 - mine[k].fooled, compare(rival, mine[k])[1]))
                name = ranked[0] if ranked else ""
                theirs, ours = compare(rival, mine[name]) if name else (float("nan"), float("nan"))
                beaten += not ours <= theirs
                print(
                    f"| {Path(path).stem} | {norm.symbol} | {label} | {theirs:.4f} | {1 - rival.fooled:.3f} "
                    f"| {rival.evaluations:.0f} | {rival.seconds:.1f} | {name} "
                    f"({mine[name].evaluations if name else 0:.0f}, {mine[name].seconds if name else 0:.1f} s) "
                    f"| {ours:.4f} | {1 - mine[name].fooled if name else 1:.3f} |",
                    flush=True,
                )
    print(f"{beaten} foolbox attacks had a smaller mean distance than every own attack of their cost")
    sys.exit(beaten > 0)


if __name__ == "__main__":
    main()
