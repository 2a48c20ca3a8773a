"""What is trained and how: a defense with its settings and those of the training, typed or from a TOML file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin

from pydantic import ValidationError

from robusteval.core.errors import UserError, explain, nearest
from robusteval.core.numbers import number
from robusteval.core.registry import Origin
from robusteval.core.toml_files import read_toml
from robusteval.core.user_code import beside, file_and_name
from robusteval.defenses import DEFENSES
from robusteval.defenses.base import Defense
from robusteval.training.settings import TrainingSettings

SECTIONS = {"defense", "training"}


@dataclass(frozen=True)
class Recipe:
    """A defense, where it comes from, and the settings of its training."""

    defense: Defense
    origin: Origin
    training: TrainingSettings

    @classmethod
    def of(cls, defense: Defense, training: TrainingSettings | None = None) -> Recipe:
        """That of a defense of the registry."""
        return cls(defense, DEFENSES.origin(defense.name), training or TrainingSettings())

    @property
    def title(self) -> str:
        return f"{self.defense.title}{self.defense.says}"


@dataclass(frozen=True)
class Draft:
    """What is given so far: the class of a defense and settings that are not validated yet."""

    method: type[Defense]
    origin: Origin
    defense: Mapping[str, Any]
    training: Mapping[str, Any]

    def recipe(self, given: Mapping[str, Any] | None = None) -> Recipe:
        """The recipe, with what is `given` on the command line above what stands in the draft. A setting that both the
        defense and the training have goes to the defense. Raises UserError that names the option."""
        given = given or {}
        of_defense = {k: v for k, v in given.items() if k in self.method.model_fields}
        of_training = {k: v for k, v in given.items() if k not in of_defense}
        try:
            defense = self.method(**{**self.defense, **of_defense})
            training = TrainingSettings(**{**self.training, **of_training})
        except ValidationError as error:
            known = [*self.method.model_fields, *TrainingSettings.model_fields]
            raise UserError(f"{self.method.name}: {explain(error, known, called=option)}") from error
        return Recipe(defense, self.origin, training)


def read_draft(spec: str) -> Draft:
    """The draft for a defense's NAME, FILE.py:Class (naming the file is the permission to run it) or FILE.toml with
    the tables [defense], whose `method` names it, and [training]. Raises UserError."""
    if spec.endswith(".toml"):
        return _from_toml(Path(spec))
    method, origin = _find(spec, None)
    return Draft(method, origin, {}, {})


def _from_toml(path: Path) -> Draft:
    return draft_of(read_toml(path, "a defense in a .toml file"), path.name, path.parent)


def draft_of(data: Mapping[str, Any], where: str, folder: Path) -> Draft:
    """The draft in the tables of a TOML file named `where`; FILE.py is looked for in its folder. Raises UserError."""
    for key, value in data.items():
        if key not in SECTIONS or not isinstance(value, Mapping):
            raise UserError(f"expected the tables [defense] and [training] in {where}, got '{key}'")
    settings = dict(data.get("defense", {}))
    name = settings.pop("method", None)
    if not isinstance(name, str):
        raise UserError(f"expected method = NAME in [defense] of {where}, got {name!r}")
    method, origin = _find(name, folder)
    training = data.get("training", {})
    for section, values, known in (("defense", settings, method), ("training", training, TrainingSettings)):
        unknown = next((key for key in values if key not in known.model_fields), None)
        if unknown is not None:
            hint = nearest(unknown, known.model_fields)
            raise UserError(f"expected a known setting in [{section}] of {where}, got '{unknown}' ({hint})")
    return Draft(method, origin, settings, training)


def _find(spec: str, folder: Path | None) -> tuple[type[Defense], Origin]:
    parts = file_and_name(spec)
    if parts is None:
        return DEFENSES.find(spec)
    path = Path(parts[0]).resolve() if folder is None else beside(parts[0], folder)
    return DEFENSES.find(f"{path}:{parts[1]}", trusted=[path])


def option(setting: str) -> str:
    """A setting, or a part of one such as `milestones.0`, as the command line has it."""
    return "--" + setting.partition(".")[0].replace("_", "-")


def value_of(text: str, kind: Any) -> object:
    """What was typed for a setting of a type: a word stays as it is, values with commas between them and a single one
    for a type that takes several are a tuple, fractions are numbers. The rest is pydantic's to read."""
    bare = get_args(kind)[0] if get_origin(kind) is Annotated else kind
    if bare is str:
        return text
    if "," in text or get_origin(bare) in (tuple, list):
        return tuple(_fraction(part) for part in text.split(",") if part)
    return _fraction(text)


def _fraction(text: str) -> object:
    try:
        return number(text) if "/" in text else text
    except ValueError:
        return text
