"""What each defense costs against standard training: seconds and passes of an update, all in one run.

    python benchmarks/training_cost.py [--arch cnn7-mnist] [--batch 100] [--rounds 15] [--threads 1] [--device cpu]

The defenses take turns, an update each a round, so that a noisy machine slows all of them; the median over the rounds
counts. Passes are those of the whole batch through the network: forward as its module is called, backward as gradients
reach its logits, a pass back through a pass back being one too. Images are random: only their size matters.
"""

from __future__ import annotations

import argparse
import statistics
import time
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from robusteval.core.norms import Norm
from robusteval.defenses.adversarial import PGDTraining
from robusteval.defenses.ascent_training import AdversarialTraining
from robusteval.defenses.base import Batch, Carried, Defense
from robusteval.defenses.free_training import FreeTraining
from robusteval.defenses.gaussian_augmentation import GaussianAugmentation
from robusteval.defenses.global_spectral_norm import GlobalSpectralNorm
from robusteval.defenses.gradient_regularization import GradientRegularization
from robusteval.defenses.logit_pairing import LogitPairing
from robusteval.defenses.moment_regularization import MomentRegularization
from robusteval.defenses.operator_norm import OperatorNormRegularization
from robusteval.defenses.perturbed_augmentation import PerturbedAugmentation
from robusteval.defenses.sgr import SGR
from robusteval.defenses.smooth_kernels import SmoothKernels
from robusteval.defenses.spectral_norm import SpectralNorm
from robusteval.defenses.standard import Standard
from robusteval.defenses.trades import Trades
from robusteval.defenses.weight_decay import WeightDecay
from robusteval.models.architectures import ARCHITECTURES

DEFENSES: tuple[Defense, ...] = (
    Standard(),
    WeightDecay(),
    SGR(source="identity"),
    SGR(),
    SGR(source="lrc"),
    SGR(representation="matrix"),
    PerturbedAugmentation(perturbation="fgsm", budget=0.1),
    PerturbedAugmentation(perturbation="pgd", budget=0.1),
    GradientRegularization(),
    GradientRegularization(by="double-backpropagation"),
    PGDTraining(budget=0.1),
    FreeTraining(budget=0.1, replays=8),
    AdversarialTraining(budget=0.1, norm=Norm.L2),
    GlobalSpectralNorm(),
    SpectralNorm(),
    OperatorNormRegularization(),
    MomentRegularization(),
    GaussianAugmentation(folds=2),
    GaussianAugmentation(folds=6),
    SmoothKernels(),
    Trades(budget=0.1),
    LogitPairing(budget=0.1),
)


class Counted(torch.autograd.Function):
    """The identity, which counts the passes back through it, those through a pass back among them."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, counts: dict[str, float]) -> Tensor:
        ctx.counts = counts
        return logits.view_as(logits)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        ctx.counts["backward"] += 1
        return gradient.clone(), None


class Watched(nn.Module):
    """A network that counts its passes, in batches."""

    def __init__(self, network: nn.Module, batch: int) -> None:
        super().__init__()
        self.network, self.batch = network, batch
        self.counts = {"forward": 0.0, "backward": 0.0}

    def forward(self, x: Tensor) -> Tensor:
        self.counts["forward"] += len(x) / self.batch
        logits: Tensor = Counted.apply(self.network(x), self.counts)  # type: ignore[no-untyped-call]
        return logits


@dataclass
class Trial:
    """One defense with its own network, optimizer and state."""

    defense: Defense
    network: Watched
    optimizer: torch.optim.Optimizer
    state: Carried
    seconds: list[float] = field(default_factory=list)

    def update(self, batch: Batch) -> None:
        begun = time.perf_counter()
        # Free training replays a batch and divides the epochs by as much: one replay is its cost.
        self.optimizer.zero_grad(set_to_none=True)
        loss, self.state = self.defense.backward(self.network, batch, self.state)
        self.optimizer.step()
        float(loss)  # waits for a GPU
        self.seconds.append(time.perf_counter() - begun)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--arch", default="cnn7-mnist")
    parser.add_argument("--batch", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    architecture, generator = ARCHITECTURES[options.arch], torch.Generator().manual_seed(0)
    pixels = torch.rand(options.batch, *architecture.input_shape).to(options.device)
    labels = torch.randint(architecture.num_classes, (options.batch,)).to(options.device)
    trials = []
    for defense in DEFENSES:
        network = Watched(architecture.network().to(options.device), options.batch).train()
        state = defense.begin(network, pixels, generator)
        trials.append(Trial(defense, network, torch.optim.Adam(network.parameters()), state))
    for trial in trials:
        trial.network.counts.update(forward=0.0, backward=0.0)
    for _ in range(options.rounds + 1):
        for trial in trials:
            trial.update(Batch(pixels, labels, generator))
    print(f"{options.arch}, batches of {options.batch}, {options.device}, torch {torch.__version__}")
    print(f"{'defense':62} {'seconds':>8} {'forward':>8} {'backward':>9}")
    standard = statistics.median(trials[0].seconds[1:])
    for trial in trials:
        passes = {way: count / (options.rounds + 1) for way, count in trial.network.counts.items()}
        times = statistics.median(trial.seconds[1:]) / standard
        name = trial.defense.title + trial.defense.says
        print(f"{name:62} {times:7.2f}x {passes['forward']:8.1f} {passes['backward']:9.1f}")


if __name__ == "__main__":
    main()
