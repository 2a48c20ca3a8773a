"""Upper bounds of the minimum adversarial distance, one file a method."""

from __future__ import annotations

from typing import TYPE_CHECKING

from robusteval.core.registry import Registry

if TYPE_CHECKING:
    from robusteval.attacks.base import Attack

ATTACKS: Registry[Attack] = Registry(
    "attacks",
    "robusteval.attacks.base:Attack",
    {
        "uniform-noise": "robusteval.attacks.noise:UniformNoise",
        "gaussian-noise": "robusteval.attacks.noise:GaussianNoise",
        "lrc": "robusteval.attacks.lrc:LRC",
        "fgsm": "robusteval.attacks.fgsm:FGSM",
        "pgd": "robusteval.attacks.pgd:PGD",
        "apgd": "robusteval.attacks.apgd:APGD",
        "square": "robusteval.attacks.square:Square",
        "auto": "robusteval.attacks.auto:Auto",
        "transfer": "robusteval.attacks.transfer:Transfer",
        "fab": "robusteval.attacks.fab:FAB",
        "deepfool": "robusteval.attacks.deepfool:DeepFool",
        "ddn": "robusteval.attacks.ddn:DDN",
        "fmn": "robusteval.attacks.fmn:FMN",
        "sigma-zero": "robusteval.attacks.sigma_zero:SigmaZero",
        "alma": "robusteval.attacks.alma:ALMA",
        "pdgd": "robusteval.attacks.pdgd:PDGD",
        "pdpgd": "robusteval.attacks.pdpgd:PDPGD",
        "logbarrier": "robusteval.attacks.logbarrier:LogBarrier",
        "closest": "robusteval.attacks.closest:Closest",
        "polish": "robusteval.attacks.polish:Polish",
        "lbfgs": "robusteval.attacks.lbfgs:LBFGS",
        "adef": "robusteval.attacks.adef:ADef",
        "foolbox-deepfool": "robusteval.attacks.external.foolbox_attacks:FoolboxDeepFool",
        "foolbox-ddn": "robusteval.attacks.external.foolbox_attacks:FoolboxDDN",
        "carlini-wagner": "robusteval.attacks.external.foolbox_attacks:CarliniWagner",
        "foolbox-fmn": "robusteval.attacks.external.foolbox_attacks:FoolboxFMN",
        "ead": "robusteval.attacks.external.foolbox_attacks:EAD",
        "brendel-bethge": "robusteval.attacks.external.foolbox_attacks:BrendelBethge",
        "boundary": "robusteval.attacks.external.foolbox_decisions:Boundary",
        "hopskipjump": "robusteval.attacks.external.foolbox_decisions:HopSkipJump",
        "salt-and-pepper": "robusteval.attacks.external.foolbox_decisions:SaltAndPepper",
        "autoattack": "robusteval.attacks.external.autoattack:AutoAttack",
    },
)
"""Name -> where the class is. A new method is one file and one line here."""
