"""The methods of one kind by name: those of this package, and those that installed packages add as entry points.

A method is named by a reference, `package.module:Class`, the same here and in an entry point, and its module is
imported when the method is asked for: naming the methods loads none of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
from importlib.metadata import entry_points, version
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

from robusteval.core.errors import UserError

if TYPE_CHECKING:
    from robusteval.core.methods import Method

M = TypeVar("M", bound="Method")
PACKAGE = "robusteval"


@dataclass(frozen=True)
class Origin:
    """Where a method comes from: `module:Class`, the package that it belongs to, and that package's version."""

    reference: str
    package: str
    version: str


class Registry(Mapping[str, "type[M]"], Generic[M]):
    """Name -> class. `kind` is what the entry points are grouped under, `robusteval.<kind>`."""

    def __init__(self, kind: str, base: str, builtin: Mapping[str, str]) -> None:
        self.kind, self.base, self.builtin = kind, base, dict(builtin)

    def __getitem__(self, name: str) -> type[M]:
        """The class of that name. Raises KeyError where there is none, UserError where a package promises one that
        cannot be loaded or is something else."""
        origin = self.origin(name)
        try:
            found = load(origin.reference)
        except (ImportError, AttributeError) as error:
            raise UserError(
                f"expected {origin.reference} of {origin.package} for the {self.kind} '{name}', got: {error}"
            ) from error
        base = load(self.base)
        if not (isinstance(found, type) and issubclass(found, base)):
            raise UserError(
                f"expected {origin.reference} of {origin.package} to be a subclass of {base.__name__}, got {found!r}"
            )
        method = cast("type[M]", found)
        if method.name != name:
            raise UserError(f"expected {origin.reference} to have the name '{name}', got '{method.name}'")
        return method

    def __iter__(self) -> Iterator[str]:
        return iter(self.origins)

    def __len__(self) -> int:
        return len(self.origins)

    def origin(self, name: str) -> Origin:
        """Where the method of that name comes from. Raises KeyError."""
        return self.origins[name]

    @cached_property
    def origins(self) -> dict[str, Origin]:
        """Those of this package first; another package cannot take their names."""
        own = {name: Origin(reference, PACKAGE, version(PACKAGE)) for name, reference in self.builtin.items()}
        found = {}
        for point in entry_points(group=f"{PACKAGE}.{self.kind}"):
            package = point.dist
            found[point.name] = Origin(
                point.value, package.name if package else "unknown", package.version if package else "unknown"
            )
        return found | own


def load(reference: str) -> Any:
    """What `module:name` refers to."""
    module, _, name = reference.partition(":")
    return getattr(import_module(module), name)
