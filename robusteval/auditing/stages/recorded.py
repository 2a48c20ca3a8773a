"""The record of a stage of a method, as the manifest has it before the stage ran."""

from __future__ import annotations

from typing import Any, TypeVar

from robusteval.core.methods import Method
from robusteval.core.registry import Origin
from robusteval.results.records import MethodRecord

M = TypeVar("M", bound=MethodRecord)


def method_record(
    kind: type[M], stage: str, method: Method, origin: Origin, *, label: str | None = None, **own: Any
) -> M:
    """The record of a stage of a method, whose label in the protocol is the name of the stage unless given: what all
    methods have in common, and what its kind says besides."""
    common = {
        "name": stage,
        "title": method.heading(),
        "method": method.name,
        "origin": origin,
        "label": label or stage,
        "settings": method.model_dump(mode="json"),
        "batch_independent": method.batch_independent,
        "norm": getattr(method, "norm", None),
        "quantities": method.quantities,
    }
    return kind(**(common | own))
