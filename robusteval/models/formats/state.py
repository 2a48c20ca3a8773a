"""The weights of a network among what a training saved: below which wrapper, behind which prefix. Decided by the
network's own keys: what fits them is taken as it is, so that a network whose keys begin with `module.` loads too."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import Any

from torch import Tensor

from robusteval.core.errors import UserError
from robusteval.core.limits import CHECKPOINT_KEYS, check_limit_of

WRAPPERS = (
    *("state_dict", "model_state_dict", "model_state", "model", "net", "network", "params", "weights"),
    *("ema", "state_dict_ema", "model_ema", "ema_state_dict", "params_ema"),
)
"""The order in which weights are looked for, where several fit; others follow in the order of the file."""
DEPTH = 6
"""Of wrappers in one another."""
CONTAINERS = 2_000
"""Containers that are looked into."""
Weights = dict[str, Tensor]


@dataclass(frozen=True)
class FoundWeights:
    """Weights of a file. where: the keys that led to them; prefix: what each of their names began with; beside: what
    lay among them and is no tensor; others: where else weights lay that fit."""

    weights: Weights
    where: tuple[str, ...] = ()
    prefix: str = ""
    beside: tuple[str, ...] = ()
    others: tuple[str, ...] = ()

    @property
    def note(self) -> str:
        """What was done to take them, in words; empty where they were taken as they lay."""
        said = [f"from '{'.'.join(self.where)}'"] if self.where else []
        said += [f"without the prefix '{self.prefix}'"] if self.prefix else []
        said += [f"leaving {', '.join(self.beside[:3])}"] if self.beside else []
        said += [f"rather than from {', '.join(self.others)}, which fit too"] if self.others else []
        return ", ".join(said)


def find_weights(path: Path, content: Any, own: Mapping[str, Tensor]) -> FoundWeights:
    """The weights for a network with the state `own`, else those that come nearest, which the caller then refuses by
    their keys. Raises UserError where there are none at all."""
    candidates = list(_candidates(content, ()))
    if not candidates:
        raise UserError(_nothing(path, content))
    for found in candidates:
        check_limit_of(path, len(found.weights), CHECKPOINT_KEYS, "keys")
    fitting = [fit for found in candidates if (fit := _without_prefix(found, own)) is not None]
    whole = [fit for fit in fitting if all(fit.weights[key].shape == own[key].shape for key in own)]
    if best := (whole or fitting):
        others = tuple(f"'{'.'.join(fit.where)}'" for fit in (whole or fitting)[1:4])
        return FoundWeights(best[0].weights, best[0].where, best[0].prefix, best[0].beside, others)
    nearest = max((_common_removed(found) for found in candidates), key=lambda f: len(f.weights.keys() & own.keys()))
    if nearest.beside and not nearest.weights.keys() & own.keys():
        raise UserError(_nothing(path, content))
    return nearest


def _candidates(content: Any, where: tuple[str, ...]) -> Iterator[FoundWeights]:
    """Containers that hold tensors by name, those that are less deep first, each once."""
    level, met = [(where, content)], {id(content)}
    for _ in range(DEPTH):
        below: list[tuple[tuple[str, ...], Any]] = []
        for place, held in level:
            if not isinstance(held, Mapping):
                continue
            named = {key: value for key, value in held.items() if isinstance(key, str)}
            weights = {k: v for k, v in named.items() if isinstance(v, Tensor)}
            if weights:
                yield FoundWeights(weights, place, beside=tuple(str(k)[:80] for k in held if k not in weights))
            order = [key for key in WRAPPERS if key in named] + [key for key in named if key not in WRAPPERS]
            for key in order:
                if isinstance(named[key], Mapping) and id(named[key]) not in met and len(met) < CONTAINERS:
                    met.add(id(named[key]))
                    below.append(((*place, key[:80]), named[key]))
        level = below


def _without_prefix(found: FoundWeights, own: Mapping[str, Tensor]) -> FoundWeights | None:
    """The weights by the network's own names, where they are those behind one prefix; None where they are not."""
    if len(found.weights) != len(own) or not own:
        return None
    longest, tail = _common(found.weights), _common(own)
    prefix = longest.removesuffix(tail) if longest.endswith(tail) else None
    if prefix is None or (prefix and not prefix.endswith(".")):
        return None
    weights = {key.removeprefix(prefix): value for key, value in found.weights.items()}
    return FoundWeights(weights, found.where, prefix, found.beside) if weights.keys() == own.keys() else None


def _common(keys: Iterable[str]) -> str:
    """What all keys begin with."""
    first, last = min(keys), max(keys)
    return first[: sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(first, last, strict=False)))]


def _common_removed(found: FoundWeights) -> FoundWeights:
    """Without the wrappers' usual prefix, for keys that an error can compare."""
    for prefix in ("module.", "_orig_mod.", "model.", "net.", "backbone.", "network."):
        if all(key.startswith(prefix) for key in found.weights):
            weights = {key.removeprefix(prefix): value for key, value in found.weights.items()}
            return _common_removed(FoundWeights(weights, found.where, found.prefix + prefix, found.beside))
    return found


def _nothing(path: Path, content: Any) -> str:
    if not isinstance(content, Mapping) or not content:
        return f"expected a state dict in {path}, got {type(content).__name__}"
    key, value = next(((k, v) for k, v in content.items() if not isinstance(v, Tensor)), next(iter(content.items())))
    return f"expected only tensors in the state dict of {path}, got {type(value).__name__} for '{str(key)[:80]}'"
