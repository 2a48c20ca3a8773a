"""A protocol: which methods with which settings, read from TOML and validated before anything runs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from importlib.resources import files
from pathlib import Path
from typing import Any, Generic, TypeVar

from pydantic import ValidationError

from robusteval.attacks import ATTACKS
from robusteval.attacks.base import Attack
from robusteval.auditing.asked import with_budgets
from robusteval.auditing.budgets import Budgets, OwnBudgets, parse_all_budgets, parse_budgets, with_tables_of
from robusteval.auditing.question import question
from robusteval.certify import CERTIFICATES
from robusteval.certify.base import Certificate
from robusteval.core import user_code
from robusteval.core.errors import UserError, explain, nearest
from robusteval.core.methods import Method
from robusteval.core.norms import Norm
from robusteval.core.plain_names import as_plain_name, plain_name
from robusteval.core.registry import Origin, Registry
from robusteval.core.toml_files import read_toml
from robusteval.metrics import METRICS
from robusteval.metrics.base import Metric
from robusteval.results.calibrate import Calibration
from robusteval.results.records import CLEAN, REPEAT, SANITY

LONGEST_LABEL = 60
"""Of a method's name in a protocol, in characters."""
RESERVED = (CLEAN, SANITY, REPEAT)
M = TypeVar("M", bound=Method)


@dataclass(frozen=True)
class Entry(Generic[M]):
    """One method of a protocol under its label, with the budgets it is given (empty for most methods, and where each
    image has its own)."""

    label: str
    method: M
    origin: Origin
    budgets: tuple[float, ...] = ()
    every_budget: bool = False
    """Whether each of them is tried by itself, rather than searched for the smallest that breaks an image."""

    @property
    def spec(self) -> dict[str, str]:
        """How a protocol names the method: its name, or FILE.py:Class, and the code that it is pinned to."""
        file = user_code.file_and_name(self.origin.reference)
        named = {"method": f"{self.origin.package}:{file[1]}" if file else self.method.name, "name": self.label}
        return named | ({"origin": self.origin.pin} if self.origin.pin else {})


@dataclass(frozen=True)
class Protocol:
    name: str
    description: str
    budgets: Budgets
    attacks: tuple[Entry[Attack], ...]
    certificates: tuple[Entry[Certificate], ...]
    metrics: tuple[Entry[Metric], ...]
    calibration: Calibration | None = None
    """How estimated lower bounds are held against the witnesses; None for not at all."""
    top: int = 1
    """An image is right while its label is among so many of the model's best classes."""
    target: int | str | None = None
    """An image is right while the model does not give this class, named or numbered; those whose label it is are left
    out. None for the label, as usual."""
    own_budgets: OwnBudgets = field(default_factory=dict)
    """The radius of each image by its id, in norms that have no budgets for all."""

    def as_json(self) -> dict[str, Any]:
        """Everything that decides the numbers, for the manifest and for comparing two protocols."""

        def entries(items: tuple[Entry[Any], ...]) -> list[dict[str, Any]]:
            return [
                e.spec
                | ({"budgets": list(e.budgets)} if e.budgets else {})
                | ({"every_budget": True} if e.every_budget else {})
                | e.method.model_dump(mode="json", exclude_none=True)
                for e in items
            ]

        return (
            {
                "name": self.name,
                "description": self.description,
                "budgets": {norm.value: list(values) for norm, values in self.budgets.items()},
                "attacks": entries(self.attacks),
                "certificates": entries(self.certificates),
                "metrics": entries(self.metrics),
            }
            | ({} if self.calibration is None else {"calibration": self.calibration.model_dump()})
            | ({} if self.top == 1 else {"top": self.top})
            | ({} if self.target is None else {"target": self.target})
            | ({} if not self.own_budgets else {"own_budgets": {n.value: own for n, own in self.own_budgets.items()}})
        )


def certificates_only(protocol: Protocol) -> Protocol:
    """The same protocol without its attacks and metrics. Raises UserError if it has no certificate."""
    if not protocol.certificates:
        raise UserError(f"expected a certificate in the protocol {protocol.name}, got none")
    if not (protocol.attacks or protocol.metrics):
        return protocol
    name = f"{protocol.name}, certificates only"
    return replace(protocol, name=name, attacks=(), metrics=(), calibration=None)


def available_protocols() -> dict[str, Path]:
    folder = Path(str(files("robusteval") / "protocols"))
    return {path.stem: path for path in sorted(folder.glob("*.toml"))}


def read_protocol(spec: str) -> Protocol:
    """A protocol by name, or from a TOML file. Errors name the file, the method and the setting."""
    known = available_protocols()
    path = known.get(spec, Path(spec))
    data, named = _placed(read_toml(path, f"a protocol's name or a .toml file ({nearest(spec, known)})"), path.parent)
    return parse_protocol(with_tables_of(data, path.parent), path.name, named)


def _placed(data: dict[str, Any], folder: Path) -> tuple[dict[str, Any], set[Path]]:
    """A protocol whose files, FILE.py in FILE.py:Class, are looked for in its own folder; and these files. Naming the
    protocol permits to run those that lie beside it, and no file elsewhere. Raises UserError."""
    named: set[Path] = set()

    def place(entry: Any) -> Any:
        parts = user_code.file_and_name(str(entry.get("method"))) if isinstance(entry, dict) else None
        if parts is None:
            return entry
        path = user_code.beside(parts[0], folder)
        named.add(path)
        return entry | {"method": f"{path}:{parts[1]}"}

    kinds = ("attacks", "certificates", "metrics")
    lists = {kind: [place(entry) for entry in data[kind]] for kind in kinds if isinstance(data.get(kind), list)}
    return data | lists, named


def parse_protocol(data: Mapping[str, Any], where: str, trusted: Collection[Path] = ()) -> Protocol:
    """A protocol from the tables of a TOML file named `where`. Of the files that it names only those that are `trusted`
    are run: what stands in a manifest is no permission."""
    sections = {"name", "description", "budgets", "attacks", "certificates", "metrics", "calibration", "top", "target"}
    sections |= {"own_budgets"}
    for key in data:
        if key not in sections:
            raise UserError(f"expected only known sections in {where}, got '{key}' ({nearest(key, sections)})")
    budgets, own = parse_all_budgets(data, where)
    # None for those that each image has for itself.
    given = {**budgets, **dict.fromkeys(own)}
    attacks = tuple(_entry(e, ATTACKS, given, where, trusted) for e in _list(data, "attacks", where))
    searched = [_entry(e, CERTIFICATES, {}, where, trusted) for e in _list(data, "certificates", where)]
    certificates = tuple(with_budgets(entry, budgets, own, where) for entry in searched)
    metrics = tuple(_entry(e, METRICS, {}, where, trusted) for e in _list(data, "metrics", where))
    labels = [*(a.label for a in attacks), *(c.label for c in certificates), *(m.label for m in metrics)]
    # Where case is not told apart they would share a folder.
    often = Counter(label.casefold() for label in labels)
    for label in labels:
        if often[label.casefold()] > 1:
            raise UserError(f"expected distinct names in {where}, got '{label}' twice; give one a 'name'")
    if not labels:
        raise UserError(f"expected at least one method in {where}, got none")
    if attacks and all(a.method.on_witnesses for a in attacks):
        raise UserError(f"expected another attack in {where} for '{attacks[0].label}' to start from, got none")
    named = [a.label for a in attacks]
    for metric in metrics:
        needed = metric.method.witnesses_of
        if needed is not None and needed not in named:
            wanted = f"expected witnesses of an attack in {where} for {metric.label}"
            raise UserError(f"{wanted}, got '{needed}' ({nearest(needed, named)})")
    name, description = data.get("name", as_plain_name(Path(where).stem, "protocol")), data.get("description", "")
    try:
        plain_name(str(name))
    except ValueError as error:
        raise UserError(f"{where}, name: {error}, got {str(name)[:80]!r}") from None
    calibration = _calibration(data["calibration"], where) if "calibration" in data else None
    methods = attacks, certificates, metrics
    return Protocol(str(name), str(description), budgets, *methods, calibration, *question(data, where), own)


def _calibration(data: Any, where: str) -> Calibration:
    if not isinstance(data, dict):
        raise UserError(f"expected a [calibration] table in {where}, got {type(data).__name__}")
    try:
        return Calibration(**data)
    except ValidationError as error:
        raise UserError(f"{where}, calibration: {explain(error, Calibration.model_fields)}") from error


def _list(data: Mapping[str, Any], key: str, where: str) -> list[dict[str, Any]]:
    entries = data.get(key, [])
    if not isinstance(entries, list) or not all(isinstance(e, dict) for e in entries):
        raise UserError(f"expected [[{key}]] tables in {where}, got {type(entries).__name__}")
    return entries


def _entry(
    settings: Mapping[str, Any],
    registry: Registry[M],
    budgets: Mapping[Norm, tuple[float, ...] | None],
    where: str,
    trusted: Collection[Path],
) -> Entry[M]:
    settings = dict(settings)
    spec, pin = str(settings.pop("method", None)), settings.pop("origin", None)
    label = settings.pop("name", None)
    own, every = settings.pop("budgets", None), settings.pop("every_budget", False)
    if not isinstance(every, bool):
        raise UserError(f"expected true or false for every_budget in {where}, got {every!r}")
    try:
        found, origin = registry.find(spec, trusted, pin)
    except UserError as error:
        raise type(error)(f"{where}: {error}") from error
    try:
        method = found(**settings)
    except ValidationError as error:
        raise UserError(f"{where}, {registry.one} '{found.name}': {explain(error, found.model_fields)}") from error
    label = str(method.label if label is None else label)
    if label != as_plain_name(label, longest=LONGEST_LABEL):
        raise UserError(
            f"expected a name of letters, digits, '.', '_' and '-' in {where}, at most {LONGEST_LABEL} of them, got "
            f"'{label[:80]}'"
        )
    if label.casefold() in RESERVED:
        raise UserError(f"expected a name of its own in {where}, got '{label}', a stage of every audit")
    if not (isinstance(method, Attack) and method.fixed_budget):
        if own is not None or every:
            key = "every_budget" if own is None else "budgets"
            raise UserError(f"expected '{key}' only for fixed-budget attacks in {where}, got them for '{label}'")
        return Entry(label, method, origin)
    given = parse_budgets(own, f"'{label}' in {where}") if own is not None else budgets.get(method.norm, ())
    if given is None:
        if every:
            raise UserError(f"expected every_budget in {where} with budgets of all images, got it for '{label}'")
        return Entry(label, method, origin)
    if not given:
        raise UserError(f"expected budgets.{method.norm.value} in {where} for '{label}', got none")
    return Entry(label, method, origin, given, every)
