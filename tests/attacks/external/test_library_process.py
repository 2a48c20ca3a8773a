"""Attacks from other libraries leave the state of the process as it was, and say nothing."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

from adapters import CASES, SMALL, made, plateau, run, seen, state
from robusteval.attacks.external.autoattack import AutoAttack
from robusteval.core.norms import Norm

ROOT = Path(__file__).parents[3]


def test_the_state_of_the_process_is_as_it_was() -> None:
    model, images = plateau()
    before = state()
    for kind, norm in CASES:
        run(kind(norm=norm, **SMALL[kind]), model, images)
        assert state() == before, kind.name


@pytest.mark.parametrize("calls", [1, 8, 10_000])
def test_autoattack_leaves_the_state_of_the_process_even_when_the_model_fails(calls: int) -> None:
    """pyautoattack takes the trace function from debuggers and from tools that measure coverage."""
    left = [-1]

    def logits(x: Tensor) -> Tensor:
        left[0] -= 1
        if not left[0]:
            raise RuntimeError("a bug")
        return x.flatten(1)[:, :4]

    trace, tracer = sys.gettrace(), sys.gettrace() or (lambda *_: None)
    model = made(logits)
    images = seen(model, torch.rand(2, 1, 8, 8, generator=torch.Generator().manual_seed(0)))
    left[0] = calls
    attack = AutoAttack(norm=Norm.LINF, version="rand", iterations=5)
    sys.settrace(tracer)
    try:
        before = state()
        if calls < 10_000:
            with pytest.raises(RuntimeError, match="a bug"):
                run(attack, model, images, torch.full((2,), 0.01))
        else:
            run(attack, model, images, torch.full((2,), 0.01))
        assert state() == before
    finally:
        sys.settrace(trace)


def test_library_attacks_say_nothing() -> None:
    """In a fresh process where every warning is an error: foolbox's imports, AutoAttack's logger, prints."""
    code = """
import sys; sys.path.insert(0, "tests")
import warnings; warnings.simplefilter("error")
import torch
from adapters import CASES, SMALL, run
from oracles import affine, random_images
from robusteval.attacks.external.autoattack import AutoAttack
model, _, _ = affine(0); images = random_images(0, 2, model)
for kind, norm in CASES:
    run(kind(norm=norm, **{**SMALL[kind], "steps": 2}), model, images)
for norm, version in zip(AutoAttack.norms, ("standard", "plus", "rand")):
    run(AutoAttack(norm=norm, version=version, iterations=5, queries=5), model, images, torch.full((2,), 0.01))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=ROOT)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
