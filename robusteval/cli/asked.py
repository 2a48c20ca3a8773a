"""The options of which images a command is about and how they are read, the same for every command that reads some."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from typing import TYPE_CHECKING, Any

from robusteval.cli.options import (
    ClassesOption,
    CropOption,
    DataOption,
    ImageColumnOption,
    InterpolationOption,
    LabelColumnOption,
    LimitOption,
    OtherDataOption,
    ResizeOption,
    SampleOption,
    ScaleOption,
    SplitOption,
)
from robusteval.core.reading import Reading, reading_of

if TYPE_CHECKING:
    from robusteval.core.images import Images

READING: tuple[tuple[str, Any], ...] = (
    ("resize", ResizeOption),
    ("crop", CropOption),
    ("interpolation", InterpolationOption),
    ("split", SplitOption),
    ("image_column", ImageColumnOption),
    ("label_column", LabelColumnOption),
    ("scale", ScaleOption),
)
"""The options of a Reading: name, type. None is the default of each."""
_CHOICE: tuple[tuple[str, Any, Any], ...] = (
    ("limit", LimitOption, None),
    ("sample", SampleOption, None),
    ("classes", ClassesOption, None),
    *((name, kind, None) for name, kind in READING),
)


@dataclass(frozen=True)
class AskedImages:
    """What the command line says of the images: the first `limit`, or `sample` drawn at random."""

    data: str | None
    limit: int | None
    sample: int | None
    classes: str | None
    reading: Reading

    def read(self, seed: int) -> Images:
        """The images. Raises UserError."""
        from robusteval.data.choice import read_chosen

        return read_chosen(str(self.data), self.limit, self.sample, seed, classes=self.classes, reading=self.reading)


def asks_for_images(command: Callable[..., None]) -> Callable[..., None]:
    """A command whose parameter `asked: AskedImages` is, on the command line, one option for each thing to ask. Raises
    UserError for what no Reading can be, when it is called."""
    return _asking(command, ("data", DataOption, inspect.Parameter.empty))


def may_ask_for_images(command: Callable[..., None]) -> Callable[..., None]:
    """The same, of a command that may do without `--data`: asked.data is None."""
    return _asking(command, ("data", OtherDataOption, None))


def _asking(command: Callable[..., None], data_option: tuple[str, Any, Any]) -> Callable[..., None]:

    @wraps(command)
    def run(*args: Any, **given: Any) -> None:
        from robusteval.data.choice import first_or_drawn

        reading = reading_given(given)
        data, classes = given.pop("data"), given.pop("classes")
        limit, sample = first_or_drawn(given.pop("limit"), given.pop("sample"))
        command(*args, **given, asked=AskedImages(data, limit, sample, classes, reading))

    # Typer reads the options of a command off its signature.
    own = inspect.signature(command, eval_str=True)
    parameters: list[inspect.Parameter] = []
    for parameter in own.parameters.values():
        if parameter.name == "asked":
            parameters += [_option(*option) for option in (data_option, *_CHOICE)]
        else:
            parameters.append(parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY))
    vars(run)["__signature__"] = own.replace(parameters=parameters)
    run.__annotations__ = {p.name: p.annotation for p in parameters} | {"return": None}
    return run


def _option(name: str, annotation: Any, default: Any) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


def reading_given(given: dict[str, Any]) -> Reading:
    """The Reading among the options of a command, which are taken out. Raises UserError."""
    return reading_of(**{name: given.pop(name) for name, _ in READING})
