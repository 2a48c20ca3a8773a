"""What `robusteval list` shows: everything that can be named on the command line and in protocols."""

from __future__ import annotations

from enum import StrEnum
from typing import TypeVar

from rich.table import Table

from robusteval.core.errors import UserError
from robusteval.core.foreign import one_line
from robusteval.core.methods import Method
from robusteval.core.registry import Registry

M = TypeVar("M", bound=Method)


class Listing(StrEnum):
    attacks = "attacks"
    certificates = "certificates"
    metrics = "metrics"
    defenses = "defenses"
    models = "models"
    architectures = "architectures"
    protocols = "protocols"
    data = "data"


def listing(what: Listing) -> Table:
    """The table of what can be named, as the terminal shows it."""
    table = Table("name", "what it is", box=None, pad_edge=False)
    for name, summary in listed(what):
        table.add_row(one_line(name), one_line(summary))
    return table


def listed(what: Listing) -> list[tuple[str, str]]:
    """Names, each with a line that says what it is. Loads only what it lists."""
    match what:
        case Listing.attacks:
            from robusteval.attacks import ATTACKS

            return _methods(ATTACKS)
        case Listing.certificates:
            from robusteval.certify import CERTIFICATES

            return _methods(CERTIFICATES)
        case Listing.metrics:
            from robusteval.metrics import METRICS

            return _methods(METRICS)
        case Listing.defenses:
            from robusteval.defenses import DEFENSES

            return _methods(DEFENSES)
        case Listing.models:
            from robusteval.models.zoo import zoo_models

            return zoo_models()
        case Listing.architectures:
            from robusteval.models.architectures import ARCHITECTURES

            return [(name, a.summary) for name, a in ARCHITECTURES.items()]
        case Listing.protocols:
            from robusteval.auditing.protocol import available_protocols, read_protocol

            return [(name, read_protocol(name).description) for name in available_protocols()]
        case Listing.data:
            from robusteval.data import DATASETS

            return [(name, d.summary) for name, d in DATASETS.items()]


def _methods(registry: Registry[M]) -> list[tuple[str, str]]:
    """Those of other packages with the package; one that cannot be loaded with the reason."""
    lines = []
    for name, origin in registry.origins.items():
        try:
            line = registry[name].summary
        except UserError as error:
            line = str(error)
        lines.append((name, f"{line} [{origin.pin}]" if origin.pin else line))
    return lines
