"""robusteval train DEFENSE: one command a defense, with every setting of it and of the training as an option."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args, get_origin

import typer
from typer.core import TyperGroup

from robusteval.cli.asked import READING, reading_given
from robusteval.cli.options import ClassesOption, DataOption, DeviceOption, LimitOption
from robusteval.cli.running import err, explains_mistakes, out
from robusteval.core.errors import UserError

if TYPE_CHECKING:
    from robusteval.cli.progress import Bars
    from robusteval.training.loop import Tick
    from robusteval.training.recipe import Draft

ArchitectureOption = Annotated[str, typer.Option(help="NAME, or FILE.py:FUNCTION that builds the network.")]
WeightsOption = Annotated[Path, typer.Option("--out", help="The .safetensors file to write, or to continue.")]
TestOption = Annotated[str | None, typer.Option(help="A data set on which the accuracy is measured at the end.")]
_CALLED = {"crop": "center_crop"}
"""--crop is the augmentation's here, so that of the images has a longer name."""


def _reading_options(draft: Draft) -> dict[str, str]:
    """What the options of a Reading are called beside the settings of a defense, of which one may have such a name."""
    called = {name: _CALLED.get(name, name) for name, _ in READING}
    return {name: f"image_{own}" if own in draft.method.model_fields else own for name, own in called.items()}


SHARED: tuple[tuple[str, Any, Any], ...] = (
    ("data", DataOption, inspect.Parameter.empty),
    ("arch", ArchitectureOption, inspect.Parameter.empty),
    ("to", WeightsOption, inspect.Parameter.empty),
    ("limit", LimitOption, None),
    ("classes", ClassesOption, None),
    ("test", TestOption, None),
    ("device", DeviceOption, "auto"),
)
"""Options of every defense's command: name, type, default."""


class Defenses(TyperGroup):
    """The defenses as commands: those of the registry, FILE.py:Class and FILE.toml."""

    def list_commands(self, ctx: typer.Context) -> list[str]:  # type: ignore[override]
        """Those that can be loaded; `robusteval list defenses` says why one cannot."""
        from robusteval.defenses import DEFENSES

        return [name for name in DEFENSES if _loads(name)]

    def get_command(self, ctx: typer.Context, cmd_name: str) -> Any:  # type: ignore[override]
        from robusteval.training.recipe import read_draft

        found: list[Any] = []
        explains_mistakes(lambda: found.append(_command(cmd_name, read_draft(cmd_name))))()
        return found[0]


def _loads(name: str) -> bool:
    from robusteval.defenses import DEFENSES

    try:
        return bool(DEFENSES[name])
    except UserError:
        return False


train_app = typer.Typer(cls=Defenses, no_args_is_help=True, pretty_exceptions_enable=False)


@train_app.callback()
def train() -> None:
    """Train a network with a defense: NAME, FILE.py:Class or FILE.toml. `robusteval train NAME --help` lists the
    settings of one."""


def _command(name: str, draft: Draft) -> Any:
    """The command of one defense; its options are made of the settings' fields."""

    def run(**given: Any) -> None:
        _train(draft, **given)

    kinds = dict(READING)
    reading = (_parameter(called, kinds[own], None) for own, called in _reading_options(draft).items())
    parameters = [*(_parameter(*shared) for shared in SHARED), *reading, *_settings(draft)]
    if taken := {shared[0] for shared in SHARED} & draft.method.model_fields.keys():
        raise UserError(f"expected settings of {name} with names of their own, got '{min(taken)}'")
    # Typer reads the options of a command off its signature.
    vars(run)["__signature__"] = inspect.Signature(parameters)
    run.__annotations__ = {p.name: p.annotation for p in parameters}
    app = typer.Typer(pretty_exceptions_enable=False, add_completion=False)
    text = f"{draft.method.title}: {draft.method.summary}."
    app.command(name, help=text, short_help=draft.method.summary)(explains_mistakes(run))
    return typer.main.get_command(app)


def _settings(draft: Draft) -> Iterator[inspect.Parameter]:
    """Options for the settings of the defense and of the training; a name that both have is the defense's."""
    from robusteval.training.recipe import option
    from robusteval.training.settings import TrainingSettings

    values = {**draft.training, **draft.defense}
    fields = {**draft.method.model_fields, **TrainingSettings.model_fields, **draft.method.model_fields}
    for name, field in fields.items():
        default = values.get(name, None if field.is_required() else field.default)
        required = field.is_required() and name not in values
        among = f" One of {', '.join(get_args(field.annotation))}." if get_origin(field.annotation) is Literal else ""
        text = f"{field.description or ''}{among} ({'required' if required else f'default: {_shown(default)}'})"
        spelled = option(name)
        # None is the default here: a setting that is not typed is left to the recipe.
        if field.annotation is bool:
            switch = typer.Option(f"{spelled}/--no-{spelled[2:]}", help=text, show_default=False)
            yield _parameter(name, Annotated[bool | None, switch], None)
        else:
            value = typer.Option(spelled, help=text, show_default=False)
            yield _parameter(name, Annotated[str | None, value], None)


def _parameter(name: str, annotation: Any, default: Any) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


def _shown(value: Any) -> str:
    if isinstance(value, tuple | list):
        return ",".join(map(str, value)) or "none"
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _train(
    draft: Draft,
    *,
    data: str,
    arch: str,
    to: Path,
    limit: int | None,
    classes: str | None,
    test: str | None,
    device: str,
    **settings: Any,
) -> None:
    from robusteval.analysis.show import percent
    from robusteval.cli.progress import Bars
    from robusteval.data import read_images
    from robusteval.training.make import make_model
    from robusteval.training.recipe import value_of
    from robusteval.training.settings import TrainingSettings

    reading = reading_given({own: settings.pop(called) for own, called in _reading_options(draft).items()})
    fields = {**TrainingSettings.model_fields, **draft.method.model_fields}
    given = {
        k: value_of(v, fields[k].annotation) if isinstance(v, str) else v for k, v in settings.items() if v is not None
    }
    recipe = draft.recipe(given)
    # --split is that of --data; TEST:test names that of the other.
    other = reading.model_copy(update={"split": None})
    try:
        images = read_images(data, limit, classes=classes, reading=reading)
        tested = None if test is None else read_images(test, option="--test", classes=classes, reading=other)
    except UserError as error:
        raise UserError(str(error).replace("--crop", "--center-crop")) from error
    there = to.exists()
    with Bars(err) as bars:
        told = TrainingBar(bars, recipe.defense.title)
        card = make_model(
            recipe, arch, images, to, test=tested, device=device, command=["robusteval", *sys.argv[1:]], tell=told.tell
        )
    shares = {"training": card.accuracy.training, "held out": card.accuracy.validation, "test": card.accuracy.test}
    found = ", ".join(f"{percent(share)} {name}" for name, share in shares.items() if share is not None)
    out.line(f"Accuracy: {found}")
    out.line(f"{'Trained already' if there else 'Model'}: {to}, its card {to.with_suffix('.md')}")


class TrainingBar:
    """All updates as one stage, with the loss and accuracy of the present epoch."""

    def __init__(self, bars: Bars, title: str) -> None:
        self.bars, self.title, self.done = bars, title, -1

    def tell(self, tick: Tick) -> None:
        if self.done < 0:
            self.bars.stage(self.title, tick.done, tick.total)
        else:
            self.bars.advance(tick.done - self.done)
        self.done = tick.done
        self.bars.note(f"loss {tick.loss:.3f}, {100 * tick.accuracy:.1f} % right")
