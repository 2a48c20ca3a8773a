"""What a module does besides what its class says: hooks, patches, parametrisations. No traced program shows it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from inspect import isfunction
from types import CodeType

import torch
from torch import Tensor, nn
from torch.nn.modules import module as every
from torch.nn.utils import parametrize

from robusteval.core.errors import UnsupportedError

CALL = nn.Module.__call__
ADVICE = "remove it, or certify a network that has it as a layer of its own"


def refuse_unseen(module: nn.Module, name: str) -> None:
    """Raise UnsupportedError that names the first module of a network that does more than its class says.

    A caller's hook that only looks is refused as well: nothing tells it from one that answers something else.
    """
    if every._global_forward_hooks or every._global_forward_pre_hooks:
        raise _refused("a forward hook on all modules", "every layer", name)
    for place, part in module.named_modules():
        for what in _unseen(part):
            raise _refused(what, f"'{place}' ({type(part).__name__})", name)


def is_layer(module: nn.Module) -> bool:
    """Whether torch.fx takes it as one layer, without a look inside."""
    return type(module).__module__.startswith("torch.nn") and not isinstance(module, nn.Sequential)


def _refused(what: str, where: str, name: str) -> UnsupportedError:
    return UnsupportedError(
        f"expected a network whose layers do what their classes say, got {what} on {where} of {name}; {ADVICE}"
    )


def _unseen(module: nn.Module) -> Iterator[str]:
    if module._forward_pre_hooks:
        yield "a forward pre-hook (as weight_norm and spectral_norm add)"
    if module._forward_hooks:
        yield "a forward hook"
    if parametrize.is_parametrized(module):
        yield "a parametrisation (torch.nn.utils.parametrize.remove_parametrizations makes it a plain weight)"
    if type(module).__call__ is not CALL and not type(module).__call__.__module__.startswith("torch.fx"):
        yield "a __call__ of its own"
    kind = type(module) if is_layer(module) else nn.Module
    own = ((k, v) for k, v in vars(module).items() if not isinstance(v, torch._C.ScriptMethod))
    for patched in (k for k, v in own if callable(v) and callable(getattr(kind, k, None))):
        yield f"a {patched} of its own instance"
    if is_layer(module):
        yield from _foreign(module)


def _foreign(module: nn.Module) -> Iterator[str]:
    """Methods of a layer of torch that were put into its class, and tensors that are none of torch's."""
    methods = {k: v for kind in reversed(type(module).__mro__) for k, v in vars(kind).items() if isfunction(v)}
    foreign = [k for k, v in methods.items() if k != "__init__" and not str(v.__module__).startswith("torch.")]
    # transformers adds a method of a new name to nn.Module: what no code of torch asks for changes nothing.
    asked = _names(v.__code__ for k, v in methods.items() if k not in foreign) if foreign else set()
    for name in foreign:
        if name in asked or name.startswith("__"):
            yield f"a {name} that torch did not write"
    for tensor in (*module.parameters(recurse=False), *module.buffers(recurse=False)):
        if type(tensor) not in (Tensor, nn.Parameter, torch.nn.parameter.Buffer):
            yield f"a tensor of type {type(tensor).__name__}"


def _names(codes: Iterable[CodeType]) -> set[str]:
    """The names that code asks for, also in the functions within."""
    found: set[str] = set()
    for code in codes:
        found |= {*code.co_names, *_names(c for c in code.co_consts if isinstance(c, CodeType))}
    return found
