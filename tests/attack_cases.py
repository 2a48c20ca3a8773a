"""The one table of attacks: small settings of each, and how close to the exact distance it must come.

A new attack needs an entry here; tests/attacks/test_attacks.py holds it to that.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

Settings = Mapping[str, Any]


class Reach(NamedTuple):
    """On the affine oracle, so large a `share` of 16 images must be broken within `times` their exact distances."""

    times: float
    share: float


@dataclass(frozen=True)
class AttackCase:
    """What the tests know of an attack."""

    must: tuple[Reach, ...]
    """What it must reach with `settings`, in each of its norms and for each seed: measured, and some room left."""
    settings: Settings = field(default_factory=dict)
    """As the tests of its strength use it."""
    fast: Settings | None = None
    """Cheaper still, for what does not depend on how far an attack gets; `settings` where there are none."""


def closest(median: float, worst: float) -> tuple[Reach, ...]:
    """How far above the exact distance the closest image may lie, for half of the images and for every one."""
    return Reach(median, 0.5), Reach(worst, 1.0)


EXACT = (Reach(1.05, 1.0),)
STRONG = (Reach(1.2, 0.7), Reach(2.0, 1.0))

ATTACK_CASES: dict[str, AttackCase] = {
    "uniform-noise": AttackCase((Reach(10.0, 0.9),)),
    "gaussian-noise": AttackCase((Reach(10.0, 0.9),)),
    "lrc": AttackCase((Reach(10.0, 0.75),)),
    "fgsm": AttackCase((Reach(2.0, 0.9),)),
    "pgd": AttackCase(
        STRONG,
        {"steps": 40, "step": 0.1, "restarts": 3, "loss": "margin"},
        {"steps": 10},
    ),
    "apgd": AttackCase(STRONG, {"iterations": 40, "restarts": 3, "loss": "dlr"}),
    "square": AttackCase((Reach(3.0, 0.75),), {"queries": 300}, {"queries": 50}),
    "auto": AttackCase(EXACT, {"iterations": 20, "queries": 100}, {"iterations": 5, "queries": 20}),
    "transfer": AttackCase(STRONG),
    "fab": AttackCase(closest(1.01, 1.1)),
    "deepfool": AttackCase(closest(1.02, 1.1)),
    "ddn": AttackCase(closest(1.05, 1.5)),
    "fmn": AttackCase(closest(1.05, 2.0)),
    "sigma-zero": AttackCase(closest(1.05, 2.0), {}, {"steps": 40, "exchanges": 20}),
    "alma": AttackCase(closest(1.05, 1.5), {"steps": 500}, {"steps": 30}),
    "pdgd": AttackCase(closest(1.05, 1.5)),
    "pdpgd": AttackCase(closest(1.05, 2.0)),
    "logbarrier": AttackCase(closest(1.05, 1.5), {"outer": 12, "steps": 150}, {"outer": 3, "steps": 30}),
    "polish": AttackCase(EXACT),
    "closest": AttackCase(closest(1.01, 1.1), {"queries": 600}, {"queries": 150}),
    "lbfgs": AttackCase(closest(1.1, 2.0)),
    "adef": AttackCase(closest(10.0, 30.0)),
    "foolbox-deepfool": AttackCase(closest(1.03, 1.3)),
    "foolbox-ddn": AttackCase(closest(1.05, 1.5)),
    "carlini-wagner": AttackCase(
        closest(1.15, 5.0),
        {"steps": 200, "binary_search_steps": 5, "step_size": 0.03},
        {"steps": 50, "binary_search_steps": 3, "step_size": 0.03},
    ),
    "foolbox-fmn": AttackCase(closest(2.0, 10.0)),
    "ead": AttackCase(closest(1.2, 2.0), {"steps": 300}, {"steps": 50, "binary_search_steps": 3}),
    "brendel-bethge": AttackCase(closest(1.3, 10.0)),
    "boundary": AttackCase(closest(4.0, 20.0), {"steps": 1500}, {"steps": 100}),
    "hopskipjump": AttackCase(closest(1.4, 4.0), {"steps": 20, "max_queries": 1000}, {"steps": 3, "max_queries": 300}),
    "salt-and-pepper": AttackCase(closest(2.0, 10.0)),
    "autoattack": AttackCase(EXACT, {"iterations": 10, "queries": 20}, {"iterations": 5, "queries": 20}),
}


def case_of(name: str) -> AttackCase:
    """The entry of an attack; AssertionError says what to add where there is none."""
    assert name in ATTACK_CASES, (
        f"expected an entry for '{name}' in ATTACK_CASES of tests/attack_cases.py: "
        "AttackCase((Reach(times, share),), settings), how close to the exact distance it must come"
    )
    return ATTACK_CASES[name]
