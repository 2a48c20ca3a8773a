"""What no traced program shows is refused by name: hooks, patches, parametrisations, layers of other makers."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import MethodType
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.modules import module as every
from torch.nn.utils import parametrizations, parametrize, spectral_norm, weight_norm

from propagating import F64, candidates, evaluated
from robusteval.certify.propagation.ibp import IBP
from robusteval.certify.propagation.trace import trace
from robusteval.core.errors import UnsupportedError
from robusteval.core.norms import Norm
from robusteval.models.making import make_classifier

SHAPE = (1, 4, 4)


def plain() -> Any:
    torch.manual_seed(3)
    inner = nn.Sequential(nn.Conv2d(1, 3, 3, padding=1), nn.ReLU(), nn.Conv2d(3, 3, 1))
    return nn.Sequential(inner, nn.ReLU(), nn.Identity(), nn.Flatten(), nn.Linear(48, 3))


def flip(module: nn.Module, inputs: Any, output: Tensor) -> Tensor:
    return torch.where(output > 5.5, -output, output)


def darken(module: nn.Module, inputs: tuple[Tensor]) -> tuple[Tensor]:
    return (inputs[0].clamp_min(-5),)


class Negative(nn.Module):
    def forward(self, weight: Tensor) -> Tensor:
        return -weight


class Called(nn.Sequential):
    def __call__(self, *args: Tensor) -> Tensor:
        answer: Tensor = super().__call__(*args)
        return answer + 1


class Doubling(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = plain()

    def forward(self, x: Tensor) -> Tensor:
        answer: Tensor = self.inner(x)
        return answer

    def __call__(self, *args: Tensor) -> Tensor:
        return 2 * self.forward(*args)


class Weird(Tensor):
    """A weight that layers read otherwise."""

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        answer = super().__torch_function__(func, types, args, kwargs or {})  # type: ignore[no-untyped-call]
        return answer.as_subclass(Tensor) + 1 if func is functional.linear else answer

    def __deepcopy__(self, memo: dict[int, Any]) -> Weird:
        return self


def _hook(net: Any) -> None:
    net[0][0].register_forward_hook(flip)


def _hook_on_branch(net: Any) -> None:
    net[0].register_forward_hook(flip)


def _hook_on_whole(net: Any) -> None:
    net.register_forward_hook(flip)


def _hook_with_keywords(net: Any) -> None:
    net[4].register_forward_hook(lambda m, i, k, o: o.abs(), with_kwargs=True)


def _hook_that_only_looks(net: Any) -> None:
    net[1].register_forward_hook(lambda m, i, o: None)


def _pre_hook(net: Any) -> None:
    net[0][2].register_forward_pre_hook(darken)


def _pre_hook_on_branch(net: Any) -> None:
    net[0].register_forward_pre_hook(darken)


def _parametrised(net: Any) -> None:
    parametrize.register_parametrization(net[4], "weight", Negative())


def _spectral(net: Any) -> None:
    parametrizations.spectral_norm(net[0][0])


def _old_weight_norm(net: Any) -> None:
    weight_norm(net[4])
    with torch.no_grad():
        # Without a gradient it can be copied.
        net(torch.zeros(1, *SHAPE))


def _old_spectral_norm(net: Any) -> None:
    spectral_norm(net[0][2])


def _patched_layer(net: Any) -> None:
    net[1].forward = MethodType(lambda own, x: -x.relu(), net[1])


def _patched_branch(net: Any) -> None:
    net[0].forward = lambda x: net[0][0](x)


def _patched_below_forward(net: Any) -> None:
    own = net[0][0]._conv_forward
    net[0][0]._conv_forward = lambda x, weight, bias: own(x, -weight, bias)


def _weird_weight(net: Any) -> None:
    del net[4].weight
    net[4].register_buffer("weight", torch.rand(3, 48).as_subclass(Weird))


CHANGES: dict[Callable[[Any], None], str] = {
    _hook: r"a forward hook on 'network\.0\.0' \(Conv2d\)",
    _hook_on_branch: r"a forward hook on 'network\.0'",
    _hook_on_whole: "a forward hook on 'network'",
    _hook_with_keywords: r"a forward hook on 'network\.4'",
    _hook_that_only_looks: r"a forward hook on 'network\.1' \(ReLU\)",
    _pre_hook: r"a forward pre-hook .*'network\.0\.2'",
    _pre_hook_on_branch: r"a forward pre-hook .*'network\.0'",
    _parametrised: r"a parametrisation .*remove_parametrizations.* on 'network\.4'",
    _spectral: r"a parametrisation .* on 'network\.0\.0'",
    _old_weight_norm: r"a forward pre-hook \(as weight_norm .* 'network\.4'",
    _old_spectral_norm: r"a forward pre-hook \(as weight_norm .* 'network\.0\.2'",
    _patched_layer: r"a forward of its own instance on 'network\.1'",
    _patched_branch: r"a forward of its own instance on 'network\.0'",
    _patched_below_forward: "a _conv_forward of its own instance",
    _weird_weight: r"a tensor of type Weird on 'network\.4'",
}


def refusal(network: nn.Module) -> str:
    """What certifying it says."""
    pixels = torch.rand(2, *SHAPE)
    with pytest.raises(UnsupportedError) as caught:
        IBP(norm=Norm.LINF)(network, pixels, torch.zeros(2, dtype=torch.int64))
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize("change", CHANGES, ids=lambda f: f.__name__[1:])
def test_what_no_program_shows_is_refused_by_name(change: Callable[[Any], None]) -> None:
    network = plain()
    change(network)

    said = refusal(network)
    assert re.search(CHANGES[change], said), said


def test_a_call_of_its_own_is_refused() -> None:
    assert "a __call__ of its own on 'network' (Doubling)" in refusal(Doubling())
    inner = Called(nn.Conv2d(1, 3, 1), nn.ReLU())
    assert "on 'network.0' (Called)" in refusal(nn.Sequential(inner, nn.Flatten(), nn.Linear(48, 3)))


@contextmanager
def everywhere(register: Any, hook: Any) -> Iterator[None]:
    handle = register(hook)
    try:
        yield
    finally:
        handle.remove()


@pytest.mark.parametrize(
    ("register", "hook"),
    [
        (every.register_module_forward_hook, lambda m, i, o: o + isinstance(m, nn.ReLU)),
        (every.register_module_forward_pre_hook, lambda m, i: (i[0] * 1.0,)),
    ],
)
def test_a_hook_on_all_modules_is_refused(register: Any, hook: Any) -> None:
    with everywhere(register, hook):
        assert "a forward hook on all modules" in refusal(plain())
    assert trace(make_classifier("plain", plain(), SHAPE)).classes == 3


def test_a_class_of_torch_that_was_changed_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nn.ReLU, "forward", lambda own, x: torch.relu(x) + 1)
    assert "a forward that torch did not write" in refusal(plain())


def test_parametrisations_that_were_removed_leave_a_plain_network() -> None:
    network = plain()
    parametrize.register_parametrization(network[4], "weight", Negative())
    parametrize.remove_parametrizations(network[4], "weight")
    classifier = make_classifier("plain", network, SHAPE).to("cpu", F64)
    pixels = candidates(5, SHAPE).double()
    assert torch.allclose(evaluated(trace(classifier), pixels)[-1].flatten(1), classifier.predict(pixels), atol=1e-12)


def test_a_program_of_torch_fx_is_a_network_like_others() -> None:
    classifier = make_classifier("fx", torch.fx.symbolic_trace(plain()), SHAPE)
    assert trace(classifier).classes == 3


class Shifted(nn.ReLU):
    def forward(self, input: Tensor) -> Tensor:
        answer: Tensor = super().forward(input) * 0.5 - 0.25
        return answer


class Twice(nn.Identity):
    def forward(self, input: Tensor) -> Tensor:
        return 2 * input


class Absolute(nn.Conv2d):
    def forward(self, input: Tensor) -> Tensor:
        answer: Tensor = self._conv_forward(input, self.weight.abs(), self.bias)
        return answer


class Dropping(nn.Dropout):
    def forward(self, input: Tensor) -> Tensor:
        return input * 0.5


@pytest.mark.parametrize("layer", [Shifted(), Twice(), Dropping()], ids=lambda m: type(m).__name__)
def test_a_subclass_of_a_layer_is_read_as_it_is_written(layer: nn.Module) -> None:
    network = plain()
    network.insert(2, layer)
    classifier = make_classifier("sub", network, SHAPE).to("cpu", F64)
    pixels = candidates(5, SHAPE).double()
    assert torch.allclose(evaluated(trace(classifier), pixels)[-1].flatten(1), classifier.predict(pixels), atol=1e-12)


def test_a_subclass_that_does_what_bounds_cannot_pass_through_is_refused() -> None:
    network = plain()
    network[0][0] = Absolute(1, 3, 3, padding=1)
    assert "expected only layers that bounds can pass through" in refusal(network)


def test_a_method_of_a_new_name_in_every_module_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """transformers adds one when it is imported; a method that torch asks for is refused still."""
    classifier = make_classifier("net", plain(), SHAPE)
    before = trace(classifier)
    monkeypatch.setattr(nn.Module, "smart_apply", lambda module: None, raising=False)
    assert len(trace(classifier).nodes) == len(before.nodes)
    monkeypatch.setattr(nn.Conv2d, "_conv_forward", lambda module, x, *_: x)
    with pytest.raises(UnsupportedError, match="a _conv_forward that torch did not write"):
        trace(classifier)
