"""Settings of defenses out of range are refused with a message that names the field."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from robusteval.defenses import DEFENSES

BUDGETED = ["pgd-training", "free-training", "adversarial-training", "trades", "logit-pairing"]

REFUSED: list[tuple[str, dict[str, Any], str]] = [
    *((name, {"budget": value}, "budget") for name in BUDGETED for value in (0, -0.1, "0/255", "x/255", "1/0")),
    *((name, {}, "budget") for name in [*BUDGETED, "perturbed-augmentation"]),
    *((name, {"budget": 0.1, "norm": "l0"}, "norm") for name in ("pgd-training", "trades", "logit-pairing")),
    ("adversarial-training", {"budget": 0.1, "norm": "l0"}, "norm"),
    ("adversarial-training", {"budget": 0.1, "norm": "l3"}, "norm"),
    ("adversarial-training", {"budget": 0.1, "q": "l0"}, "q"),
    ("adversarial-training", {"budget": 0.1, "q": "linf", "powered": True}, "q in l1, l2 for powered"),
    ("adversarial-training", {"budget": 0.1, "weight": -1}, "weight"),
    ("pgd-training", {"budget": 0.1, "steps": 0}, "steps"),
    ("pgd-training", {"budget": 0.1, "step": 0}, "step"),
    ("free-training", {"budget": 0.1, "replays": 0}, "replays"),
    ("gradient-regularization", {"norm": "l1"}, "norm"),
    ("gradient-regularization", {"norm": "l0"}, "norm"),
    ("gradient-regularization", {"h": 0}, "h"),
    ("gradient-regularization", {"by": "magic"}, "by"),
    ("operator-norm", {"p": "l0"}, "p"),
    ("operator-norm", {"q": "l0"}, "q"),
    ("operator-norm", {"eps": 0}, "eps"),
    ("operator-norm", {"iterations": 0}, "iterations"),
    ("spectral-norm", {"eps": -1}, "eps"),
    ("spectral-norm", {"form": "other"}, "form"),
    ("global-spectral-norm", {"weight": -0.1}, "weight"),
    ("weight-decay", {"decay": -0.1}, "decay"),
    ("sgr", {"source": "fgsm"}, "source"),
    ("sgr", {"beta": 0}, "beta"),
    ("sgr", {"beta": 1.5}, "beta"),
    ("sgr", {"every": 0}, "every"),
    ("sgr", {"zeta": 0}, "zeta"),
    ("sgr", {"budget": 0}, "budget"),
    ("perturbed-augmentation", {"perturbation": "noise", "budget": 0.1}, "perturbation"),
    ("perturbed-augmentation", {"perturbation": "lrc", "budget": 0.1, "share": 1.1}, "share"),
    ("perturbed-augmentation", {"perturbation": "lrc", "budget": 0.1, "share": 0}, "share"),
    ("moment-regularization", {"sigma": 0}, "sigma"),
    ("moment-regularization", {"sigma": (0.1, -0.1)}, "sigma"),
    ("gaussian-augmentation", {"sigma": 0}, "sigma"),
    ("gaussian-augmentation", {"folds": 1}, "folds"),
    *(("smooth-kernels", {"base": base}, f"expected a budget for base {base}, got none") for base in "TAL"),
    ("smooth-kernels", {"base": "X"}, "base"),
    ("smooth-kernels", {"gamma": -1}, "gamma"),
    ("trades", {"budget": 0.1, "gamma": -1}, "gamma"),
    ("standard", {"wieght": 1}, "wieght"),
]


@pytest.mark.parametrize(("name", "settings", "named"), REFUSED, ids=[f"{n}-{s}" for n, s, _ in REFUSED])
def test_a_setting_out_of_range_is_refused_and_named(name: str, settings: dict[str, Any], named: str) -> None:
    with pytest.raises(ValidationError) as refused:
        DEFENSES[name](**settings)
    problems = [(".".join(map(str, e["loc"])), e["msg"]) for e in refused.value.errors()]
    assert any(named in place.split(".") or named in message for place, message in problems), problems


def test_a_budget_may_be_a_fraction() -> None:
    for name in BUDGETED:
        assert DEFENSES[name].model_validate({"budget": "8/255"}).model_dump()["budget"] == 8 / 255
