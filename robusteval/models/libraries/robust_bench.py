"""Networks of RobustBench by name. The package is not on PyPI; its networks normalise their images themselves."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from torch import nn

from robusteval.core.errors import UserError, first_line, nearest
from robusteval.models.libraries.preparation import LibraryNetwork, Preparation
from robusteval.models.libraries.vision import with_torchvision

WHERE = "git+https://github.com/RobustBench/robustbench"


def robustbench_network(name: str, classes: int | None, channels: int) -> LibraryNetwork:
    """The network of NAME, or of DATASET/THREAT/NAME where several are called so, with random weights. Raises
    UserError."""
    try:
        models = with_torchvision("robustbench.model_zoo.models", "robustbench", f"for robustbench:{name}")
    except UserError as error:
        raise UserError(str(error).replace("'robusteval[robustbench]'", WHERE)) from None
    known = dict(_entries(models.model_dicts, ()))
    fitting = [place for place in known if place == name or place.rpartition("/")[2] == name]
    if not fitting:
        raise UserError(f"expected a network of RobustBench, got '{name}' ({nearest(name, known)})")
    if len(fitting) > 1:
        raise UserError(f"expected one network of RobustBench, got '{name}', which is several: {', '.join(fitting)}")
    try:
        network = known[fitting[0]]["model"]()
    except Exception as error:
        raise UserError(f"expected robustbench:{name} to be built, got: {first_line(error)}") from error
    if not isinstance(network, nn.Module):
        raise UserError(f"expected a torch.nn.Module from robustbench:{name}, got {type(network).__name__}")
    return LibraryNetwork(network, Preparation())


def _entries(found: Any, where: tuple[str, ...]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The networks in tables of tables, by the keys that lead to them."""
    if isinstance(found, Mapping) and "model" in found:
        yield "/".join(where), found
    elif isinstance(found, Mapping):
        for key, inner in found.items():
            yield from _entries(inner, (*where, str(getattr(key, "value", key))))
