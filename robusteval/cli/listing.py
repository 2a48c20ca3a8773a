"""What `robusteval list` shows: everything that can be named on the command line and in protocols."""

from __future__ import annotations

from enum import StrEnum


class Listing(StrEnum):
    attacks = "attacks"
    certificates = "certificates"
    metrics = "metrics"
    architectures = "architectures"
    protocols = "protocols"
    data = "data"


def listed(what: Listing) -> list[tuple[str, str]]:
    """Names, each with a line that says what it is. Loads only what it lists."""
    match what:
        case Listing.attacks:
            from robusteval.attacks import ATTACKS

            return [(name, m.summary) for name, m in ATTACKS.items()]
        case Listing.certificates:
            from robusteval.certify import CERTIFICATES

            return [(name, m.summary) for name, m in CERTIFICATES.items()]
        case Listing.metrics:
            from robusteval.metrics import METRICS

            return [(name, m.summary) for name, m in METRICS.items()]
        case Listing.architectures:
            from robusteval.models.architectures import ARCHITECTURES

            return [(name, a.summary) for name, a in ARCHITECTURES.items()]
        case Listing.protocols:
            from robusteval.auditing.protocol import available_protocols, read_protocol

            return [(name, read_protocol(name).description) for name in available_protocols()]
        case Listing.data:
            from robusteval.data import DATASETS

            return [(name, d.summary) for name, d in DATASETS.items()]
