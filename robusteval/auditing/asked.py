"""Certificates that are asked whether a budget is proven, rather than how far they reach."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from robusteval.auditing.budgets import Budgets, OwnBudgets
from robusteval.certify.base import Certificate
from robusteval.core.errors import UserError

if TYPE_CHECKING:
    from robusteval.auditing.protocol import Entry, Protocol
    from robusteval.core.norms import Norm


def with_budgets(entry: Entry[Certificate], budgets: Budgets, own: OwnBudgets, where: str) -> Entry[Certificate]:
    """A certificate of a protocol named `where`, with the budgets of all images where it asks for those. Budgets of
    single images stay where they are until the images are known. Raises UserError."""
    norm = entry.method.norm
    if norm in own:
        return entry
    try:
        return replace(entry, method=entry.method.at_budgets(budgets.get(norm, ())))
    except UserError as error:
        raise UserError(f"{where}, certificate '{entry.label}': {error}") from error


def asked_at(protocol: Protocol, norm: Norm, budget: float) -> Protocol:
    """The same protocol, whose certificates in a norm are asked at one budget and search no more, where they can."""
    certificates = tuple(
        replace(entry, method=entry.method.asked_at((budget,))) if entry.method.norm is norm else entry
        for entry in protocol.certificates
    )
    if certificates == protocol.certificates:
        return protocol
    name = f"{protocol.name}, asked at {norm.symbol} {budget:.6g}"
    return replace(protocol, name=name, certificates=certificates)
