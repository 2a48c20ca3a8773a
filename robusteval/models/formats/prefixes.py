"""Behind which prefixes of its keys a state dict holds the whole of a network, and what lies beside it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from robusteval.files.pickled_tensors import Weight

COUNTER = "num_batches_tracked"
"""Of batch normalisation: older files lack it, and evaluation does not use it."""
_TRAINING = re.compile(
    r"criterion|loss|metric|acc|accuracy|n_averaged|normali[sz]er?|normali[sz]ation|mean|std|ema|teacher"
    r"|optimi[sz]er|scheduler|step|epoch|train|val|test|global"
)


@dataclass(frozen=True)
class KeyMatch:
    """The weights of a network by its own names; prefix: what each began with; beside: the other tensors' keys."""

    weights: dict[str, Weight]
    prefix: str
    beside: tuple[str, ...]


def key_matches(weights: Mapping[str, Weight], own: Mapping[str, Tensor]) -> list[KeyMatch]:
    """Every prefix behind which all of the network's keys are, with its shapes. Other keys may lie beside, but none
    that may be a part of a larger network: below a module of the same name or number, or next to the whole, unless
    its name is one of training (a criterion, a metric)."""
    needed = [key for key in own if key.rpartition(".")[2] != COUNTER]
    if not needed:
        return []
    longest = max(needed, key=len)
    prefixes = [key[: len(key) - len(longest)] for key in weights if key.endswith(longest)]
    return [
        fit
        for prefix in prefixes
        if (not prefix or prefix.endswith("."))
        and all(_same(weights.get(prefix + key), own[key]) for key in needed)
        and (fit := _fit(weights, own, prefix)) is not None
    ]


def _same(weight: Weight | None, wanted: Tensor) -> bool:
    return weight is not None and weight.shape in (None, wanted.shape)


def _fit(weights: Mapping[str, Weight], own: Mapping[str, Tensor], prefix: str) -> KeyMatch | None:
    beside = [key for key in weights if not key.startswith(prefix) or key[len(prefix) :] not in own]
    inside = [key[len(prefix) :] for key in beside if key.startswith(prefix)]
    modules = {key.split(".")[0] for key in own}
    for key in inside:
        first = key.split(".")[0]
        if first in modules or not _TRAINING.match(first):
            return None
    taken = {key: weights.get(prefix + key, value) for key, value in own.items()}
    return KeyMatch(taken, prefix, tuple(beside))


def split_over(weights: Sequence[str], own: Sequence[str]) -> list[str]:
    """The prefixes over which all of a network's keys are spread, one match each; empty where they are not."""
    found: dict[str, None] = {}
    for key in own:
        ending = [name for name in weights if name.endswith("." + key)]
        if len(ending) != 1:
            return []
        found[ending[0][: -len(key)]] = None
    return list(found) if len(found) > 1 else []
