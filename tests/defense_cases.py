"""Every defense with the settings under which the tests train it: a new one needs an entry here."""

from __future__ import annotations

from robusteval.core.norms import Norm
from robusteval.defenses.adversarial import PGDTraining
from robusteval.defenses.ascent_training import AdversarialTraining
from robusteval.defenses.base import Defense
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

CASES: dict[str, list[Defense]] = {
    "standard": [Standard()],
    "weight-decay": [WeightDecay()],
    "sgr": [
        SGR(weight=0.1),
        SGR(weight=0.1, source="signs", representation="matrix"),
        SGR(weight=0.1, source="pgd", budget=0.05, every=2),
        SGR(weight=0.1, source="lrc", zeta=2),
        SGR(weight=0.1, source="images", representation="matrix"),
        SGR(weight=0.1, source="identity"),
        SGR(weight=0.1, centred=False),
    ],
    "perturbed-augmentation": [
        PerturbedAugmentation(perturbation="fgsm", budget=0.05),
        PerturbedAugmentation(perturbation="pgd", budget=0.05),
        PerturbedAugmentation(perturbation="lrc", budget=0.1),
    ],
    "gradient-regularization": [
        GradientRegularization(weight=0.1),
        GradientRegularization(weight=0.1, norm=Norm.L2),
        GradientRegularization(weight=0.1, by="double-backpropagation"),
        GradientRegularization(weight=0.1, norm=Norm.L2, by="double-backpropagation"),
    ],
    "pgd-training": [PGDTraining(budget=0.05, steps=2), PGDTraining(norm=Norm.L2, budget=0.2, steps=2)],
    "free-training": [FreeTraining(budget=0.05, replays=2)],
    "adversarial-training": [
        AdversarialTraining(budget=0.05, steps=2),
        AdversarialTraining(norm=Norm.L2, budget=0.2, steps=2, loss="logits", powered=True),
    ],
    "global-spectral-norm": [GlobalSpectralNorm()],
    "spectral-norm": [SpectralNorm(iterations=3), SpectralNorm(iterations=3, form="jacobian")],
    "operator-norm": [
        OperatorNormRegularization(iterations=3, weight=0.05),
        OperatorNormRegularization(iterations=3, weight=0.05, p=Norm.L1, q=Norm.LINF, form="jacobian"),
    ],
    "moment-regularization": [MomentRegularization(sigma=0.1)],
    "gaussian-augmentation": [GaussianAugmentation(sigma=0.1, folds=3)],
    "trades": [Trades(budget=0.05, steps=2)],
    "logit-pairing": [LogitPairing(budget=0.05, steps=2)],
    "smooth-kernels": [
        SmoothKernels(weight=0.1),
        SmoothKernels(weight=-0.1),
        *(SmoothKernels(base=base, weight=0.1, budget=0.05, steps=2) for base in ("T", "A", "L")),
    ],
}
EXAMPLES = [defense for cases in CASES.values() for defense in cases]
IDS = [f"{d.name}{d.says}" for d in EXAMPLES]
