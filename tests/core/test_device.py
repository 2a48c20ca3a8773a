"""What "auto" stands for: a GPU where it computes what the CPU does, else the CPU."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from robusteval.core import device
from robusteval.core.device import choose_device, computes_alike


class Elsewhere(torch.Tensor):
    """A tensor of a device that the test makes up: it computes on the CPU, with one operation changed."""

    changed: Callable[[object, Tensor], Tensor] = staticmethod(lambda _, result: result)

    @classmethod
    def __torch_function__(cls, function, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        result = super().__torch_function__(function, types, args, kwargs or {})  # type: ignore[no-untyped-call]
        return cls.changed(function, result) if isinstance(result, Tensor) else result


def device_where(name: str, change: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """A device on which the operation of that name gives something else."""

    def changed(function: object, result: Tensor) -> Tensor:
        return change(result) if getattr(function, "__name__", "") == name else result

    kind = type("Faulty", (Elsewhere,), {"changed": staticmethod(changed)})
    return lambda tensor: tensor.as_subclass(kind)


def has_none(result: Tensor) -> Tensor:
    raise TypeError("Cannot convert a MPS Tensor to float64 dtype as the MPS framework doesn't support float64.")


def test_a_device_without_faults_passes() -> None:
    before = torch.get_rng_state()
    assert computes_alike(lambda tensor: tensor)
    assert computes_alike(device_where("conv2d", lambda result: result))
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("conv2d", lambda result: result * 1.01),
        ("relu", lambda result: result - 0.01),
        ("linear", lambda result: result.half().float()),
        ("linear", lambda result: result * float("nan")),
        ("relu", lambda result: result.detach()),  # a gradient that does not come back
        ("relu", lambda result: 2 * result - result.detach()),  # the right value, twice its gradient
        ("double", lambda result: result.float().double() * (1 + 1e-9)),
        ("double", has_none),
    ],
    ids=[
        "convolution",
        "ReLU",
        "half precision",
        "NaN",
        "no gradient",
        "another gradient",
        "short doubles",
        "no float64",
    ],
)
def test_a_faulty_device_is_found(name: str, change: Callable[[Tensor], Tensor]) -> None:
    assert not computes_alike(device_where(name, change))


@pytest.mark.parametrize("sound", [True, False])
def test_auto_takes_mps_where_it_passes(sound: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    if not sound:
        # As on this machine: there is none, whatever it says, and the pass there raises.
        assert choose_device("auto") == torch.device("cpu")
        return
    monkeypatch.setattr(device, "computes_alike", lambda there: True)
    made = torch.ones
    monkeypatch.setattr(torch, "ones", lambda *size, **options: made(*size, dtype=options["dtype"]))
    assert choose_device("auto") == torch.device("mps")


def test_auto_takes_cuda_first_and_the_cpu_last(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert choose_device("auto") == torch.device("cpu")
