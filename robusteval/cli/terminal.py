"""The terminal: what is printed is text. No name or message moves the cursor, sets a title or takes a colour."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from io import TextIOWrapper
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from typer.core import TyperGroup

from robusteval.cli.options import ALL_OF_LIMIT
from robusteval.core.foreign import one_line, readable


class Terminal(Console):
    """Rich's console without markup and emoji codes in texts; only rich itself writes control sequences."""

    def __init__(self, *, stderr: bool = False) -> None:
        super().__init__(stderr=stderr, markup=False, emoji=False, highlight=False)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        for segment in super().render(renderable, options):
            yield segment if segment.control else Segment(readable(segment.text), segment.style)

    def line(self, *texts: object, style: str | None = None) -> None:
        """Texts as one line, however long the terminal's are."""
        self.print(one_line(" ".join(map(str, texts))), style=style, soft_wrap=True)


class Commands(TyperGroup):
    """A group of commands whose messages about arguments are text, too."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        with _messages_as_text():
            return super().parse_args(ctx, list(_completed(args)))

    def invoke(self, ctx: Any) -> Any:
        with _messages_as_text():
            return super().invoke(ctx)


def _completed(args: list[str]) -> Iterator[str]:
    """The arguments with a value behind --sample, where no number stands there: Typer has no options that may have
    one."""
    for i, word in enumerate(args):
        yield word
        behind = args[i + 1 : i + 2]
        if word == "--sample" and not (behind and behind[0].removeprefix("-")[:1].isdigit()):
            yield ALL_OF_LIMIT


@contextmanager
def _messages_as_text() -> Iterator[None]:
    try:
        yield
    except Exception as error:
        # Typer's errors are click's, whichever click it brings.
        message = getattr(error, "message", None)
        if isinstance(message, str):
            vars(error)["message"] = one_line(message)
        raise


def print_anything() -> None:
    """Let the standard streams replace what their encoding has no character for, rather than stop there."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="replace")
