"""What numba compiles, for half a minute in every process: one test, so that it is done once."""

from __future__ import annotations

import sys

import pytest
import test_attacks

from adapters import bump, run, wrong
from attacking import COMPILED
from robusteval.attacks.external.foolbox_attacks import BrendelBethge
from robusteval.core.errors import UnsupportedError
from robusteval.core.norms import Norm


@pytest.mark.slow
def test_brendel_bethge(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is held to what the others are held to. Without numba it is refused, and says how to get it."""
    for name, norm in COMPILED.items():
        test_attacks.test_an_attack_reaches_what_its_case_demands(name, norm, 0)
        test_attacks.test_an_attack_follows_what_it_says(name)
        test_attacks.test_batches_and_seeds(name, norm)
    model, images = bump()
    attack = BrendelBethge(norm=Norm.L2, steps=8, trust_region=0.02)
    found = run(attack, model, images)
    assert wrong(model, images, found) == [True, False, True]
    monkeypatch.setattr(sys.modules["foolbox.attacks.brendel_bethge"], "NUMBA_IMPORT_ERROR", ImportError("no numba"))
    with pytest.raises(UnsupportedError, match=r"robusteval\[numba\]"):
        run(attack, model, images)
