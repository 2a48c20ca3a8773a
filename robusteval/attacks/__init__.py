"""Upper bounds of the minimum adversarial distance, one file a method."""

from __future__ import annotations

from robusteval.attacks.autoattack import AutoAttack
from robusteval.attacks.base import Attack
from robusteval.attacks.fgsm import FGSM
from robusteval.attacks.foolbox_attacks import Boundary, CarliniWagner, DeepFool
from robusteval.attacks.lrc import LRC
from robusteval.attacks.noise import UniformNoise
from robusteval.attacks.pgd import PGD
from robusteval.attacks.transfer import Transfer

_ALL: tuple[type[Attack], ...] = (
    UniformNoise,
    LRC,
    FGSM,
    PGD,
    Transfer,
    DeepFool,
    CarliniWagner,
    Boundary,
    AutoAttack,
)
ATTACKS: dict[str, type[Attack]] = {attack.name: attack for attack in _ALL}
