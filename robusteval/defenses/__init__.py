"""Training objectives, one file a method."""

from __future__ import annotations

from robusteval.defenses.adversarial import PGDTraining
from robusteval.defenses.base import Defense
from robusteval.defenses.standard import Standard

_ALL: tuple[type[Defense], ...] = (Standard, PGDTraining)
DEFENSES: dict[str, type[Defense]] = {defense.name: defense for defense in _ALL}
