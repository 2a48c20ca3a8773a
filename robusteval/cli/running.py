"""What the commands share: checkpoints opened, audits run under bars and reported, mistakes told in one line."""

from __future__ import annotations

import errno
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial, wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec

import typer

from robusteval.cli.terminal import Terminal
from robusteval.core.errors import RefutedError, UserError, first_line
from robusteval.core.foreign import one_line
from robusteval.core.memory import is_out_of_memory
from robusteval.core.numbers import finite, is_whole

if TYPE_CHECKING:
    from robusteval.auditing.protocol import Protocol
    from robusteval.core.images import Images
    from robusteval.models.classifier import Classifier
    from robusteval.results.run import Run

P = ParamSpec("P")
INCOMPLETE = "Incomplete: methods stopped with an error (RUN/failures). The same command tries them again."
_OF_MACHINE = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EFBIG, errno.EIO, errno.ENOMEM)
_OF_PATHS = (errno.ENAMETOOLONG, errno.ELOOP, errno.ENOTDIR)
_CONTINUES = "what was computed is kept, and the same command continues when that is mended"
out, err = Terminal(), Terminal(stderr=True)


def explains_mistakes(command: Callable[P, None]) -> Callable[P, None]:
    """A user's mistake is one line on stderr and exit code 2, a refuted proof exit code 1; Ctrl-C says how to go on."""

    @wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            command(*args, **kwargs)
        except UserError as error:
            err.line("error:", error)
            raise typer.Exit(2) from None
        except RefutedError as error:
            err.line("refuted:", error)
            raise typer.Exit(1) from None
        except (MemoryError, RuntimeError, OSError) as error:
            if isinstance(error, OSError) and error.errno in _OF_PATHS:
                err.line("error:", f"expected a path that the system takes, got: {error.strerror}: {error.filename}")
                raise typer.Exit(2) from None
            # Of what Python and torch raise, these are the machine's, not the program's.
            if not (is_out_of_memory(error) or (isinstance(error, OSError) and error.errno in _OF_MACHINE)):
                raise
            err.line("error:", f"expected enough memory and disk, got: {first_line(error)}; {_CONTINUES}")
            raise typer.Exit(2) from None
        except KeyboardInterrupt:
            err.line("Stopped. What was computed is kept; the same command continues it.")
            raise typer.Exit(130) from None

    return run


@contextmanager
def at_place(place: str) -> Iterator[Path]:
    """The directory to work in for the run of a place, a path or a URL; says where a URL is when all is there."""
    from robusteval.results.places import working_at

    with working_at(place) as folder:
        yield folder
    if folder != Path(place):
        out.line(f"At {place}")


def open_checkpoints(
    paths: list[str],
    arch: str | None,
    images: Images,
    mean: str | None,
    std: str | None,
    binary: bool = False,
    trust: list[Path] | None = None,
) -> list[Classifier]:
    """Checkpoint files as classifiers of images like these; says where weights were taken from that lay in wrappers."""
    from robusteval.models.checkpoints import open_checkpoint
    from robusteval.models.zoo import expanded_names

    normalisation = {"mean": _floats(mean, "--mean"), "std": _floats(std, "--std")}
    opened = [
        open_checkpoint(path, arch, input_shape=images.shape, binary=binary, trusted=trust or (), **normalisation)
        for path in expanded_names(paths)
    ]
    for model in opened:
        taken = model.origin.taken if model.origin else ""
        notes = model.origin.notes if model.origin else ()
        for text in (*([f"weights of {model.name} taken {taken}"] if taken else []), *notes):
            err.line("note:", text)
    return opened


def audit_and_report(
    models: list[Classifier],
    images: Images,
    protocol: Protocol,
    folder: Path,
    *,
    workers: str | None = None,
    engine: str = "local",
    address: str | None = None,
    **options: Any,
) -> list[Run]:
    """Say what will be run and what it may cost; run the protocol by so many workers of an engine (working.py) under
    progress bars, and report on each run when it is whole."""
    from robusteval.auditing.split import asked_workers
    from robusteval.auditing.together import audit_together
    from robusteval.auditing.working import working
    from robusteval.cli.forecasting import forecasts, planned
    from robusteval.cli.progress import Bars
    from robusteval.cli.schedule import Planned
    from robusteval.reports.formats.transfer import write_transfer_matrix
    from robusteval.reports.papers.write import write_paper_tables

    command = ["robusteval", *sys.argv[1:]]
    costly = {key: options[key] for key in ("device", "dtype", "batch_size", "eot") if key in options}
    ahead = forecasts(models, images, protocol, options.get("sources", ()), **costly)

    def report(run: Run) -> None:
        with bars.aside():
            if len(models) > 1:
                out.rule(one_line(run.path.name))
            print_report(run)

    placed = {key: options[key] for key in ("device", "dtype") if key in options}
    asked = asked_workers(
        whole(workers) if workers else None, models[0], partial(err.line, "note:"), engine=engine, **placed
    )
    stages = [Planned(one.model, stage.name, stage.seconds) for one in ahead for stage in one.stages]
    with (
        Bars(err, stages, {one.model: planned(one) for one in ahead}) as bars,
        working(asked, options.get("device", "auto"), bars.warn, engine=engine, address=address) as computing,
    ):
        options |= {"ended": report, "progress": bars, "engine": computing, "command": command}
        runs = audit_together(models, images, protocol, folder, **options)
    if len(runs) > 1 and (written := write_transfer_matrix(runs, folder)):
        out.line(f"Transfer matrix: {written}")
    if len(runs) > 1:
        print_paper_tables(write_paper_tables(runs, folder))
    if any(run.manifest.failed for run in runs):
        err.line(INCOMPLETE)
        raise typer.Exit(3)
    return runs


def print_paper_tables(pages: dict[str, Path]) -> None:
    """Where the tables of each paper are."""
    for paper, page in pages.items():
        out.line(f"Tables of {paper}: {page}")


def runs_in(places: list[str]) -> list[Run]:
    """Runs by their directories or URLs, and by folders of them. Raises UserError."""
    from robusteval.results.places import brought
    from robusteval.results.run import Run

    found: list[Run] = []
    for place in map(brought, places):
        held = sorted(p.parent for p in place.glob("*/manifest.json")) if place.is_dir() else []
        alone = not held or (place / "manifest.json").exists()
        if place.is_file():
            raise UserError(f"expected a run directory or a folder of runs, got the file {place}; give {place.parent}")
        found += [Run.open(place)] if alone else [Run.open(run) for run in held]
    return found


def print_report(run: Run) -> None:
    from robusteval.analysis import show
    from robusteval.cli.progress import Bars
    from robusteval.reports import summarise, write_report
    from robusteval.reports.formats.terminal import headline_table

    summary = summarise(run)
    for found in summary.warnings:
        out.line("warning:", found, style="yellow")
    if summary.doubts:
        text = f"Do not rely on these numbers: {'; '.join(summary.doubts)} (the report says what to do)."
        out.line(text, style="red")
    out.print(headline_table(summary))
    for reason in dict.fromkeys(reason for _, reason in summary.failed):
        titles = [title for title, own in summary.failed if own == reason]
        text = f"failed: {reason}, in {show.first_of(titles)}"
        out.line(text, style="red")
    with Bars(err) as bars:
        path = write_report(run, bars)
    out.line(f"Report: {path}")


def whole(text: str) -> int | str:
    """A number, or the word as it is."""
    return int(text) if is_whole(text) and len(text) < 20 else text


def _floats(text: str | None, option: str) -> tuple[float, ...] | None:
    if text is None:
        return None
    try:
        return tuple(finite(part) for part in text.split(","))
    except ValueError:
        raise UserError(f"expected {option} as finite numbers with commas between them, got '{text}'") from None
