"""Training objectives, one file a method."""

from __future__ import annotations

from typing import TYPE_CHECKING

from robusteval.core.registry import Registry

if TYPE_CHECKING:
    from robusteval.defenses.base import Defense

DEFENSES: Registry[Defense] = Registry(
    "defenses",
    "robusteval.defenses.base:Defense",
    {
        "standard": "robusteval.defenses.standard:Standard",
        "weight-decay": "robusteval.defenses.weight_decay:WeightDecay",
        "sgr": "robusteval.defenses.sgr:SGR",
        "perturbed-augmentation": "robusteval.defenses.perturbed_augmentation:PerturbedAugmentation",
        "gradient-regularization": "robusteval.defenses.gradient_regularization:GradientRegularization",
        "pgd-training": "robusteval.defenses.adversarial:PGDTraining",
        "free-training": "robusteval.defenses.free_training:FreeTraining",
        "adversarial-training": "robusteval.defenses.ascent_training:AdversarialTraining",
        "global-spectral-norm": "robusteval.defenses.global_spectral_norm:GlobalSpectralNorm",
        "spectral-norm": "robusteval.defenses.spectral_norm:SpectralNorm",
        "operator-norm": "robusteval.defenses.operator_norm:OperatorNormRegularization",
        "moment-regularization": "robusteval.defenses.moment_regularization:MomentRegularization",
        "gaussian-augmentation": "robusteval.defenses.gaussian_augmentation:GaussianAugmentation",
        "trades": "robusteval.defenses.trades:Trades",
        "logit-pairing": "robusteval.defenses.logit_pairing:LogitPairing",
        "smooth-kernels": "robusteval.defenses.smooth_kernels:SmoothKernels",
    },
)
"""Name -> where the class is. A new method is one file and one line here."""
