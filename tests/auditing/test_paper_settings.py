"""The protocols of the papers have the papers' settings."""

from __future__ import annotations

from robusteval.attacks.external.foolbox_attacks import CarliniWagner
from robusteval.attacks.pgd import PGD
from robusteval.auditing.protocol import read_protocol


def test_smoothkernels_attacks_with_the_defaults_of_foolbox_2() -> None:
    attacks = {entry.label: entry.method for entry in read_protocol("smoothkernel-2020").attacks}
    carlini, pgd = attacks["carlini-wagner"], attacks["pgd"]
    assert isinstance(carlini, CarliniWagner)
    assert isinstance(pgd, PGD)
    assert (carlini.steps, carlini.binary_search_steps) == (1000, 5)
    assert (carlini.step_size, carlini.initial_const, carlini.confidence) == (0.005, 0.01, 0.0)
    assert not pgd.random_start
