"""Numbers that users write: finite ones are read exactly, everything else is refused by one rule."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any, get_args

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from robusteval.attacks import ATTACKS
from robusteval.attacks.pgd import PGD
from robusteval.auditing.budgets import parse_budgets
from robusteval.certify import CERTIFICATES
from robusteval.core.device import choose_device
from robusteval.core.errors import UserError, explain
from robusteval.core.methods import Settings
from robusteval.core.numbers import finite
from robusteval.core.streams import check_seed
from robusteval.defenses import DEFENSES
from robusteval.metrics import METRICS
from robusteval.results.calibrate import Calibration
from robusteval.training.settings import TrainingSettings

NO_NUMBERS = (
    "nan", "inf", "-inf", "Infinity", "1e400", "1e999999999", "-1e999999999", "0/0", "1/0", "1/0.0", "1e400/1e400",
    "1_000", "1_0/255", "8/2_55", "\u0668/\u0662\u0665\u0665", "\uff11", "0x10", "1/2/3",
    "", " ", "/", "1/", "1,5", "one", "1e", "1e5.5", "True",
)  # fmt: skip


@pytest.mark.parametrize("text", NO_NUMBERS)
def test_what_is_no_finite_number_is_refused_at_once(text: str) -> None:
    with pytest.raises(ValueError, match="expected a finite number or a fraction such as '8/255'"):
        finite(text)
    with pytest.raises(UserError, match=r"for budgets\.linf"):
        parse_budgets([text], "budgets.linf")
    with pytest.raises(UserError, match="expected a budget such as"):
        PGD(norm="linf")(torch.nn.Flatten(), torch.zeros(1, 1, 1, 2), torch.tensor([0]), budget=text)


@given(st.integers(0, 2**53), st.integers(1, 2**53))
def test_fractions_are_the_nearest_float(above: int, below: int) -> None:
    assert finite(f"{above}/{below}") == float(Fraction(above, below))


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_decimals_are_read_back(value: float) -> None:
    assert finite(repr(value)) == value == finite(f" {value!r} ")


def _float_fields() -> list[tuple[type[Settings], str]]:
    def parts(annotation: Any) -> set[Any]:
        return {annotation}.union(*map(parts, get_args(annotation)))

    methods: list[type[Settings]] = [r[name] for r in (ATTACKS, CERTIFICATES, METRICS, DEFENSES) for name in r]
    known: list[type[Settings]] = [*methods, TrainingSettings, Calibration]
    return [(c, name) for c in known for name, field in c.model_fields.items() if float in parts(field.annotation)]


FIELDS = _float_fields()


def test_there_are_such_settings_in_every_registry() -> None:
    assert len(FIELDS) > 60
    for registry in (ATTACKS, CERTIFICATES, METRICS, DEFENSES):
        assert {registry[name] for name in registry} & {method for method, _ in FIELDS}


@pytest.mark.parametrize(("method", "name"), FIELDS, ids=lambda x: x if isinstance(x, str) else x.__name__)
def test_every_setting_of_every_method_is_a_finite_number(method: type[Settings], name: str) -> None:
    several = "tuple" in str(method.model_fields[name].annotation)
    for bad in (math.inf, -math.inf, math.nan, "1e400", "nan", True, 10**400, "1_0"):
        with pytest.raises(ValidationError) as raised:
            method(**{name: (0.1, bad) if several else bad})
        assert name in {str(error["loc"][0]) for error in raised.value.errors() if error["loc"]}, bad


def test_whole_numbers_fit_into_64_bits() -> None:
    for bad in (2**63, 10**30, True, 1.5, "1_0", "many"):
        with pytest.raises(ValidationError) as raised:
            PGD(norm="linf", steps=bad)
        message = explain(raised.value)
        assert message.startswith("expected ")
        assert "'steps'" in message
        assert "\n" not in message


@pytest.mark.parametrize(
    "spec", ["meta", "mps:7", "cuda:99", "cuda:-1", "gpu", "", "cpu:-2", "vulkan", "hpu", "xla", "lazy", "a b", "auto1"]
)
def test_a_device_that_computes_nothing_is_refused(spec: str) -> None:
    with pytest.raises(UserError, match="expected --device auto, cpu or a GPU of this machine, got") as raised:
        choose_device(spec)
    assert "\n" not in str(raised.value)


def test_the_cpu_is_one_device() -> None:
    assert choose_device("cpu") == choose_device("cpu:3") == torch.device("cpu")


@pytest.mark.parametrize("seed", [-1, 2**63, 10**30, 1.5, True, "0", None])
def test_seeds_are_whole_numbers_from_zero(seed: object) -> None:
    with pytest.raises(UserError, match=f"from 0 to {2**63 - 1}, got"):
        check_seed(seed)
    check_seed(2**63 - 1)
