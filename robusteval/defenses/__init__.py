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
        "pgd-training": "robusteval.defenses.adversarial:PGDTraining",
    },
)
"""Name -> where the class is. A new method is one file and one line here."""
