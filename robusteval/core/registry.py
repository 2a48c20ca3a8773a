"""The methods of one kind by name: those of this package, and those that installed packages add as entry points; and
one in a file of the user.

A method is named by a reference, `package.module:Class`, the same here and in an entry point, and its module is
imported when the method is asked for: naming the methods loads none of them. FILE.py:Class names a class in a Python
file, which is run only if that file is trusted.
"""

from __future__ import annotations

import inspect
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
from importlib.metadata import entry_points, version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

from robusteval.core import user_code
from robusteval.core.errors import UserError, nearest

if TYPE_CHECKING:
    from robusteval.core.methods import Method

M = TypeVar("M", bound="Method")
PACKAGE = "robusteval"


@dataclass(frozen=True)
class Origin:
    """Where a method comes from: `module:Class`, the package that it belongs to, and that package's version. For a
    file of the user: its path and `:Class`, its name, and its checksum."""

    reference: str
    package: str
    version: str

    @property
    def pin(self) -> str | None:
        """What a protocol says of it, so that no other code takes its place: "package version", or the checksum of the
        file; None for this package's own."""
        if self.package == PACKAGE:
            return None
        return self.version if self.version.startswith("sha256:") else f"{self.package} {self.version}"


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
        except Exception as error:
            raise UserError(
                f"expected {origin.reference} of {origin.package} for the {self.one} '{name}', got "
                f"{type(error).__name__}: {error}"
            ) from error
        method = self._checked(found, f"{origin.reference} of {origin.package}")
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

    def find(self, spec: str, trusted: Collection[Path] = (), pin: str | None = None) -> tuple[type[M], Origin]:
        """The class of a name, or of FILE.py:Class for one of the `trusted` files, which is then run; and where it
        comes from. `pin` is what `Origin.pin` said when the name was written down: other code is refused. Raises
        UserError."""
        parts = user_code.file_and_name(spec)
        if parts is not None:
            return self._in_file(*parts, trusted, pin)
        if spec not in self:
            if pin is not None:
                raise UserError(f"expected the package {pin} for the {self.one} '{spec}', which is not installed")
            raise UserError(f"expected a known {self.one}, got '{spec}' ({nearest(spec, self)})")
        origin = self.origin(spec)
        if pin is not None and pin != origin.pin:
            raise UserError(f"expected the {self.one} '{spec}' of {pin}, got that of {origin.package} {origin.version}")
        return self[spec], origin

    def _in_file(self, file: str, name: str, trusted: Collection[Path], pin: str | None) -> tuple[type[M], Origin]:
        """A class in a trusted file, as it was where a pin says so."""
        known = user_code.permitted(file, trusted, f"the {self.one} {name}")
        sums = {path: user_code.source_checksum(path) for path in known}
        path = next((p for p in known if pin in (None, sums[p])), None)
        if path is None:
            raise UserError(f"expected {file} as it was, {pin}, for the {self.one} {name}, got {sums[known[0]]}")
        method = self._checked(user_code.load_named(path, name, "class"), f"{path}:{name}")
        if method.name in self:
            raise UserError(f"expected {path}:{name} to have a name of its own, got '{method.name}'")
        return method, Origin(f"{path.resolve()}:{name}", path.name, sums[path])

    def _checked(self, found: object, where: str) -> type[M]:
        """A class that can be used as a method of this kind."""
        base = load(self.base)
        if not (isinstance(found, type) and issubclass(found, base)):
            raise UserError(f"expected {where} to be a subclass of {base.__name__}, got {found!r}")
        missing = [part for part in ("name", "title", "summary") if not isinstance(getattr(found, part, None), str)]
        if missing:
            raise UserError(f"expected {where} to have a {' and a '.join(missing)}, got none")
        if inspect.isabstract(found):
            wanted = sorted(n for n, part in inspect.getmembers(found) if getattr(part, "__isabstractmethod__", False))
            raise UserError(f"expected {where} to have {' and '.join(wanted)}, got none")
        return cast("type[M]", found)

    @property
    def one(self) -> str:
        return self.kind.removesuffix("s")

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
