"""Upper bounds of the minimum adversarial distance, one file a method."""

from __future__ import annotations

from robusteval.attacks.adef import ADef
from robusteval.attacks.apgd import APGD
from robusteval.attacks.auto import Auto
from robusteval.attacks.autoattack import AutoAttack
from robusteval.attacks.base import Attack
from robusteval.attacks.ddn import DDN
from robusteval.attacks.deepfool import DeepFool
from robusteval.attacks.fab import FAB
from robusteval.attacks.fgsm import FGSM
from robusteval.attacks.fmn import FMN
from robusteval.attacks.foolbox_attacks import (
    EAD,
    Boundary,
    BrendelBethge,
    CarliniWagner,
    FoolboxDDN,
    FoolboxDeepFool,
    FoolboxFMN,
    HopSkipJump,
    SaltAndPepper,
)
from robusteval.attacks.lbfgs import LBFGS
from robusteval.attacks.logbarrier import LogBarrier
from robusteval.attacks.lrc import LRC
from robusteval.attacks.noise import GaussianNoise, UniformNoise
from robusteval.attacks.pgd import PGD
from robusteval.attacks.square import Square
from robusteval.attacks.transfer import Transfer

_ALL: tuple[type[Attack], ...] = (
    UniformNoise,
    GaussianNoise,
    LRC,
    FGSM,
    PGD,
    APGD,
    Square,
    Auto,
    Transfer,
    FAB,
    DeepFool,
    DDN,
    FMN,
    LogBarrier,
    LBFGS,
    ADef,
    FoolboxDeepFool,
    FoolboxDDN,
    CarliniWagner,
    FoolboxFMN,
    EAD,
    BrendelBethge,
    Boundary,
    HopSkipJump,
    SaltAndPepper,
    AutoAttack,
)
ATTACKS: dict[str, type[Attack]] = {attack.name: attack for attack in _ALL}
