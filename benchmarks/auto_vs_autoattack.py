"""robusteval's `auto` against pyautoattack's `standard`: robust accuracy and wall time on the same images.

    python benchmarks/auto_vs_autoattack.py DATA MODEL... --arch lenet5 [--images 500] [--linf 0.05 0.1] [--l2 ...]

Both run in turn on each model and budget, in one process with the same threads: given all images at once, which both
attack in batches of 100. pyautoattack gets the network as its users load it. The judge decides for both. Robust
accuracy is a share of all correctly classified images taken. Exits with 1 if `auto` is weaker anywhere or takes more
than 0.7 of the time overall.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch

from measuring import arguments, correct_images, measure, open_model, trainable
from robusteval.attacks.auto import Auto
from robusteval.attacks.external.autoattack import AutoAttack
from robusteval.core.norms import Norm

LIMIT = 0.7


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("models", nargs="+")
    parser.add_argument("--linf", type=float, nargs="*", default=[0.05, 0.1, 0.15])
    parser.add_argument("--l2", type=float, nargs="*", default=[0.75, 1.5, 2.0])
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    print(f"{options.threads} threads, torch {torch.__version__}, {options.images} correctly classified images")
    print(
        "| model | norm | budget | robust: auto | pyautoattack | seconds: auto | pyautoattack | ratio "
        "| evaluations an image: auto | pyautoattack |"
    )
    print("| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
    spent, theirs, weaker = 0.0, 0.0, 0
    for path in options.models:
        classifier = open_model(path, options.arch, options.data)
        bare = trainable(classifier)
        images = correct_images(classifier, options.data, options.images)
        for norm, budgets in ((Norm.LINF, options.linf), (Norm.L2, options.l2)):
            for budget in budgets:
                own = measure(Auto(norm=norm), classifier, images, budget, len(images))
                other = measure(AutoAttack(norm=norm), bare, images, budget, len(images))
                spent, theirs = spent + own.seconds, theirs + other.seconds
                weaker += own.fooled < other.fooled
                print(
                    f"| {Path(path).stem} | {norm.symbol} | {budget:g} | {1 - own.fooled:.3f} | {1 - other.fooled:.3f} "
                    f"| {own.seconds:.1f} | {other.seconds:.1f} | {own.seconds / other.seconds:.2f} "
                    f"| {own.evaluations:.0f} | {other.evaluations:.0f} |",
                    flush=True,
                )
    print(f"time of auto / pyautoattack over all: {spent / theirs:.2f} (limit {LIMIT}); weaker on {weaker} budgets")
    sys.exit(weaker > 0 or spent / theirs > LIMIT)


if __name__ == "__main__":
    main()
