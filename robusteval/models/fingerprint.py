"""The fingerprint of a network: sha256 over its weights and over what computes with them.

Weights: names and values of all parameters and buffers, the normalisation among them. Code: the modules in their
structure, each by its class and its plain configuration; the code of classes as in code_facts.py; of a TorchScript
program its code, its constants and its attributes; of a torch.export or torch.fx program its graph; of a module's hooks
their code. Layers of torch count by name and by what differs from their defaults, so that another version of torch
changes nothing while it means the same by these; a TorchScript program is read as this version of torch prints it. The
built-in architectures count by their source, without comments and docstrings: another version of robusteval changes
their fingerprint where it changes their code.

What one forward pass changes (counters, activations that are kept) is the network's state and does not count.
"""

from __future__ import annotations

import hashlib
import inspect
import io
import re
import warnings
import zipfile
from collections.abc import Iterator, Mapping, Set
from typing import Any

import torch
from torch import Tensor, fx, nn

from robusteval.models.code_facts import CodeFacts, numbers

_BLANK = frozenset(vars(nn.Module()))
_HOOKS = ("_forward_pre_hooks", "_forward_hooks")
_MANGLED = re.compile(r"___torch_mangle_\d+\.?")
_ATTRIBUTE = re.compile(r"^  (\w+) : ", re.MULTILINE)
_ADDRESS = re.compile(r" at 0x[0-9a-f]+")
_STATE = {"training", "_is_full_backward_hook"}


def network_facts(network: nn.Module) -> dict[str, str]:
    """What computes with the weights of a network, as text by place."""
    facts = _Facts({id(module) for module in network.modules()})
    facts.add("network", network)
    return facts.found


def weights_digest(network: nn.Module) -> str:
    """sha256 over names and values of all parameters and buffers."""
    buffers = ((key, b) for key, b in network.named_buffers() if isinstance(b, Tensor))
    state = {key: v for key, v in network.state_dict().items() if isinstance(v, Tensor)} | dict(buffers)
    return _sha("\n".join(f"{key}: {numbers(value)}" for key, value in sorted(state.items())))


def fingerprint(weights: str, facts: Mapping[str, str], before: Mapping[str, str]) -> str:
    """sha256 of the digest of the weights and of facts that were the same `before` a forward pass."""
    kept = (f"{place}: {text}" for place, text in sorted(facts.items()) if before.get(place) == text)
    return _sha("\n".join((weights, *kept)))


class _Facts(CodeFacts):
    """Of a network with these modules, by id, whose weights are counted by themselves."""

    def __init__(self, registered: Set[int]) -> None:
        super().__init__()
        self._registered = registered

    def first_text(self, place: str, thing: Any, top: str) -> str:
        if isinstance(thing, nn.Module):
            return self._module(place, thing)
        return super().first_text(place, thing, top)

    def _module(self, place: str, module: nn.Module) -> str:
        if isinstance(module, torch.jit.ScriptModule):
            self.found.update({f"{place} {k}": v for k, v in _script_facts(module).items()})
            return "TorchScript"
        kind = type(module)
        own: dict[str, Any]
        if isinstance(module, fx.GraphModule):
            for i, node in enumerate(module.graph.nodes):
                target = self.text(f"{place} node {i}", node.target)
                given = _ADDRESS.sub("", f"{node.args} {node.kwargs}")
                self.found[f"{place} node {i}"] = f"{node.op} {node.name} {target} {given}"
            own = {name: v for name, v in vars(module).items() if isinstance(v, Tensor)}
        elif kind.__module__.partition(".")[0] == "torch":
            own = _configured(module) | {
                n: v for n, v in vars(module).items() if isinstance(v, Tensor) or n == "forward"
            }
        else:
            own = {name: v for name, v in vars(module).items() if name not in _BLANK and not name.startswith("__")}
        if id(module) not in self._registered:
            own = own | module._parameters | module._buffers
        top = kind.__module__.partition(".")[0]
        for name, value in sorted(own.items()):
            self.add(f"{place}.{name}", value, top)
        for name in _HOOKS:
            if hooks := list(vars(module)[name].values()):
                self.add(f"{place}.{name}", hooks, top)
        for name, child in module._modules.items():
            self.add(f"{place}.{name}", child)
        children = ", ".join(module._modules)
        return f"{self._kind(place, kind)} of {children}{' in training' if module.training else ''}"

    def _kind(self, place: str, kind: type) -> str:
        """The class of a module, told where it is met first."""
        if kind.__module__.partition(".")[0] == "torch":
            return f"torch {kind.__name__}"
        if id(kind) in self._met:
            return f"of the class at {self._met[id(kind)][0]}"
        self._met[id(kind)] = (place, kind)
        return self.class_text(place, kind)


def _configured(module: nn.Module) -> dict[str, Any]:
    """The settings of a layer of torch, named as its constructor does, that are not its defaults."""
    found: dict[str, Any] = {}
    for kind in type(module).__mro__:
        if kind is nn.Module:
            break
        construct = vars(kind).get("__init__")
        if construct is None:
            continue
        for name, parameter in inspect.signature(construct).parameters.items():
            value = vars(module).get(name)
            if name in vars(module) and not (type(value) is type(parameter.default) and value == parameter.default):
                found[name] = value
    return found


def _script_facts(module: torch.jit.ScriptModule) -> dict[str, str]:
    """A TorchScript program: its code as it is saved, and of each of its modules what its methods do, the constants
    in them, and its attributes."""
    saved = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.save(module, saved)
    with zipfile.ZipFile(saved) as archive:
        files = [n for n in archive.namelist() if n.endswith(".py") and "/code/" in n]
        texts = sorted(_MANGLED.sub("", archive.read(n).decode()) for n in files)
    found = {"code": _sha("\n".join(texts))}
    attributes = sorted({name for text in texts for name in _ATTRIBUTE.findall(text)} - _STATE)
    values = CodeFacts()
    for place, part in module.named_modules():
        for name, code, constants in _methods(part):
            found[f"{place}!{name}"] = _sha(_MANGLED.sub("", code))
            for key, constant in sorted(constants.items()):
                values.add(f"{place}!{name} {key}", constant)
        inner: Any = part._c
        state = {name for name, _ in (*part.named_parameters(recurse=False), *part.named_buffers(recurse=False))}
        for name in attributes:
            if (
                name not in state
                and inner.hasattr(name)
                and not isinstance(value := inner.getattr(name), torch._C.ScriptObject)
            ):
                values.add(f"{place}.{name}", value)
    return found | values.found


def _methods(part: Any) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for name in sorted(part._c._method_names()):
        code, constants = part._c._get_method(name).code_with_constants
        yield name, code, constants.const_mapping if hasattr(constants, "const_mapping") else dict(constants)


def _sha(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
