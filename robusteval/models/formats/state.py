"""The weights of a network among what a training saved: below which wrapper, behind which prefix. Decided by the
network's own keys: what fits them is taken as it is, so that a network whose keys begin with `module.` loads too."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from robusteval.core.errors import UserError
from robusteval.core.limits import CHECKPOINT_KEYS, check_limit_of
from robusteval.files.pickled import Inert
from robusteval.files.pickled_tensors import PickledTensor, Weight
from robusteval.models.formats.prefixes import key_matches, split_over

WRAPPERS = (
    *("state_dict", "model_state_dict", "model_state", "model", "net", "network", "params", "weights"),
    *("ema", "state_dict_ema", "model_ema", "ema_state_dict", "params_ema"),
)
"""The order in which weights are looked for, where several fit; others follow in the order of the file."""
DEPTH = 6
"""Of wrappers in one another."""
CONTAINERS = 2_000
"""Containers that are looked into."""
ITEMS = 16
"""Of a list that are looked into."""
_PLAIN = frozenset((*WRAPPERS[:8], "module", "_orig_mod", "backbone", "checkpoint"))
"""Wrappers and prefixes of the weights that were trained, which go before averaged ones and a teacher's."""
_STATISTICS = re.compile(r"optim|(^|_)opt($|_)|exp_avg|moment|grad|sched|scaler|fisher|mask", re.IGNORECASE)
"""Containers that hold tensors by the names of weights that are none."""
_NORMALISING = re.compile(r"normali[sz]\w*\.(mean|std)$|^(mean|std)$")


@dataclass(frozen=True)
class FoundWeights:
    """Weights of a file. where: the keys that led to them; prefix: what each of their names began with; beside: what
    lay among them; others: where else weights lay that fit; hint: why those that do not fit may not."""

    weights: Mapping[str, Weight]
    where: tuple[str, ...] = ()
    prefix: str = ""
    beside: tuple[str, ...] = ()
    others: tuple[str, ...] = ()
    hint: str = ""

    @property
    def place(self) -> str:
        return "'" + ".".join((*self.where, self.prefix.removesuffix("."))).strip(".") + "'"

    @property
    def note(self) -> str:
        """What was done to take them, in words; empty where they were taken as they lay."""
        said = [f"from '{'.'.join(self.where)}'"] if self.where else []
        said += [f"without the prefix '{self.prefix}'"] if self.prefix else []
        more = f" and {len(self.beside) - 3} more" if len(self.beside) > 3 else ""
        said += [f"leaving {', '.join(key[:80] for key in self.beside[:3])}{more}"] if self.beside else []
        said += ["where --mean and --std may be wanted"] if any(map(_NORMALISING.search, self.beside)) else []
        said += [f"rather than from {', '.join(self.others)}, which fit too"] if self.others else []
        return ", ".join(said)


def find_weights(path: Path, content: Any, own: Mapping[str, Tensor]) -> FoundWeights:
    """The weights for a network with the state `own`, else those that come nearest, which the caller then refuses by
    their keys. Raises UserError where there are none at all, or several and none of them is the plain one."""
    candidates = list(_candidates(content, ()))
    if not candidates:
        raise UserError(_nothing(path, content))
    for found in candidates:
        check_limit_of(path, len(found.weights), CHECKPOINT_KEYS, "keys")
    whole = [
        FoundWeights(fit.weights, found.where, fit.prefix, (*fit.beside, *found.beside))
        for found in candidates
        for fit in key_matches(found.weights, own)
    ]
    if whole:
        return _chosen(path, whole)
    nearest = max((_common_removed(found) for found in candidates), key=lambda f: len(f.weights.keys() & own.keys()))
    if nearest.beside and not nearest.weights.keys() & own.keys() and len(nearest.weights) < len(own):
        raise UserError(_nothing(path, content))
    if prefixes := split_over(list(nearest.weights), list(own)):
        return replace(nearest, hint=f"they are spread over {', '.join(prefixes[:5])}; save them as one network")
    return nearest


def _chosen(path: Path, whole: list[FoundWeights]) -> FoundWeights:
    """The plain weights, by the order of the file and of WRAPPERS, if there are plain ones or only one."""
    plain = [found for found in whole if all(part in _PLAIN for part in _parts(found))]
    if not plain and len(whole) > 1:
        raise UserError(
            f"expected weights of one network in {path}, got several that fit: "
            f"{', '.join(found.place for found in whole[:5])}; save those that you mean as .safetensors"
        )
    best = (plain or whole)[0]
    return replace(best, others=tuple(found.place for found in whole if found is not best)[:3])


def _parts(found: FoundWeights) -> list[str]:
    return [part for part in (*found.where, *found.prefix.split(".")) if part]


def _candidates(content: Any, where: tuple[str, ...]) -> Iterator[FoundWeights]:
    """Containers that hold tensors by name, those that are less deep first, each once."""
    level, met = [(where, content)], {id(content)}
    for _ in range(DEPTH):
        below: list[tuple[tuple[str, ...], Any]] = []
        for place, held in level:
            if isinstance(held, list | tuple):
                held = {str(i): item for i, item in enumerate(held[:ITEMS])}
            if not isinstance(held, Mapping):
                continue
            named = {key: value for key, value in held.items() if isinstance(key, str)}
            weights = {k: v for k, v in named.items() if isinstance(v, Tensor | PickledTensor)}
            if weights:
                yield FoundWeights(weights, place, beside=tuple(k[:80] for k in named if k not in weights))
            order = [key for key in WRAPPERS if key in named] + [key for key in named if key not in WRAPPERS]
            for key in order:
                if (
                    isinstance(named[key], Mapping | list | tuple)
                    and not _STATISTICS.search(key)
                    and id(named[key]) not in met
                    and len(met) < CONTAINERS
                ):
                    met.add(id(named[key]))
                    below.append(((*place, key[:80]), named[key]))
        level = below


def _common_removed(found: FoundWeights) -> FoundWeights:
    """Without the wrappers' usual prefix, for keys that an error can compare."""
    for prefix in ("module.", "_orig_mod.", "model.", "net.", "backbone.", "network."):
        if all(key.startswith(prefix) for key in found.weights):
            weights = {key.removeprefix(prefix): value for key, value in found.weights.items()}
            return _common_removed(FoundWeights(weights, found.where, found.prefix + prefix, found.beside))
    return found


def _nothing(path: Path, content: Any) -> str:
    if not isinstance(content, Mapping) or not content:
        return f"expected a state dict in {path}, got {_called(content)}"
    key, value = next(
        ((k, v) for k, v in content.items() if not isinstance(v, Tensor | PickledTensor)), next(iter(content.items()))
    )
    return f"expected only tensors in the state dict of {path}, got {_called(value)} for '{str(key)[:80]}'"


def _called(value: Any) -> str:
    return str(value.kind) if isinstance(value, Inert) and value.kind else type(value).__name__
