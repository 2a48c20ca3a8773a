"""The command line: arguments and printing, nothing else. Heavy imports wait until a command needs them."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ParamSpec

import typer
from rich.console import Console

from robusteval.cli.listing import Listing, listed
from robusteval.cli.options import (
    Arch,
    BatchSize,
    Checkpoints,
    Data,
    Device,
    DType,
    Limit,
    Mean,
    Out,
    Protocol,
    Seed,
    Std,
)
from robusteval.core.errors import RefutedError, UserError

if TYPE_CHECKING:
    from robusteval.auditing.protocol import Protocol as AuditProtocol
    from robusteval.core.images import Images
    from robusteval.models.classifier import Classifier
    from robusteval.results.run import Run

P = ParamSpec("P")
out, err = Console(), Console(stderr=True)


def polite(command: Callable[P, None]) -> Callable[P, None]:
    """A user's mistake is one line on stderr and exit code 2, a refuted proof exit code 1; Ctrl-C says how to go on."""

    @wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            command(*args, **kwargs)
        except UserError as error:
            err.print("error:", " ".join(str(error).split()), markup=False, highlight=False, soft_wrap=True)
            raise typer.Exit(2) from None
        except RefutedError as error:
            err.print("refuted:", str(error), markup=False, highlight=False, soft_wrap=True)
            raise typer.Exit(1) from None
        except KeyboardInterrupt:
            err.print("Stopped. What was computed is kept; the same command continues it.")
            raise typer.Exit(130) from None

    return run


app = typer.Typer(
    help="Robustness evaluation and certification of trained image classifiers.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


@app.command()
@polite
def audit(
    checkpoints: Checkpoints,
    data: Data,
    out_dir: Out,
    arch: Arch = None,
    protocol: Protocol = "quick",
    limit: Limit = None,
    seed: Seed = 0,
    device: Device = "auto",
    dtype: DType = "float32",
    batch_size: BatchSize = "auto",
    source: Annotated[list[str] | None, typer.Option(help="Checkpoint to transfer attacks from; repeatable.")] = None,
    source_arch: Annotated[str | None, typer.Option(help="Architecture of the sources, if not --arch.")] = None,
    mean: Mean = None,
    std: Std = None,
) -> None:
    """Bracket the minimum adversarial distance of each image, from below and from above, and write a report.

    Several checkpoints are audited side by side, each into a directory of its own name, with the others as sources of
    its transfer attacks; the matrix of sources and targets is written beside them.
    """
    from robusteval.data import read_images

    images = read_images(data, limit)
    _audit(
        _opened(checkpoints, arch, images, mean, std),
        images,
        protocol,
        out_dir,
        sources=_opened(source or [], source_arch or arch, images, mean, std),
        seed=seed,
        device=device,
        dtype=dtype,
        batch_size=_whole(batch_size),
        limit=limit,
    )


@app.command()
@polite
def certify(
    checkpoints: Checkpoints,
    data: Data,
    out_dir: Out,
    arch: Arch = None,
    protocol: Protocol = "certify",
    limit: Limit = None,
    seed: Seed = 0,
    device: Device = "auto",
    dtype: DType = "float32",
    batch_size: BatchSize = "auto",
    mean: Mean = None,
    std: Std = None,
) -> None:
    """Certify each image, without attacking it: the certificates of a protocol, and one page that says in plain words
    what they guarantee and what they do not."""
    from robusteval.auditing.protocol import certificates_only, read_protocol
    from robusteval.data import read_images
    from robusteval.reports.certification.page import write_certification

    images = read_images(data, limit)
    runs = _audit(
        _opened(checkpoints, arch, images, mean, std),
        images,
        certificates_only(read_protocol(protocol)),
        out_dir,
        seed=seed,
        device=device,
        dtype=dtype,
        batch_size=_whole(batch_size),
        limit=limit,
    )
    for run in runs:
        out.print(f"Certification: {write_certification(run)}", soft_wrap=True, highlight=False)


@app.command()
@polite
def report(run: Annotated[Path, typer.Argument(help="A run directory.")]) -> None:
    """Write report.html, report.md and the figures of a run again."""
    from robusteval.results.run import Run

    _report(Run.open(run))


@app.command()
@polite
def leaderboard(
    runs: Annotated[list[Path], typer.Argument(help="Run directories of the same protocol on the same images.")],
    out_dir: Annotated[Path, typer.Option("--out", help="Directory to write.")] = Path("leaderboard"),
    add: Annotated[Path | None, typer.Option(help="A leaderboard.json, or its folder, to stand beside.")] = None,
) -> None:
    """Compare audited models: a sortable table with places that say what the images can tell apart."""
    from robusteval.reports import leaderboard as boards
    from robusteval.results.run import Run

    board = boards.leaderboard([Run.open(run) for run in runs], boards.read_board(add) if add else None)
    out.print(f"Leaderboard: {boards.write_board(board, out_dir)}", soft_wrap=True, highlight=False)


@app.command()
@polite
def verify(
    run: Annotated[Path, typer.Argument(help="A run directory.")],
    checkpoint: Annotated[str | None, typer.Option(help="The model, if its file has moved.")] = None,
    witnesses_only: Annotated[
        bool, typer.Option("--witnesses-only", help="Do not compute certificates and metrics again.")
    ] = False,
) -> None:
    """Run the model on the kept witnesses again and check every claim in the tables. Exit code 1 if one fails."""
    from robusteval.auditing.verify import open_model
    from robusteval.auditing.verify import verify as check
    from robusteval.core.progress import Bars
    from robusteval.results.run import Run

    opened = Run.open(run)
    model = open_model(opened, checkpoint)
    with Bars(err) as bars:
        findings = list(check(opened, model, bars, recompute=not witnesses_only))
    for finding in findings[:50]:
        err.print(f"[red]wrong[/red] {finding}", highlight=False, soft_wrap=True)
    if findings:
        err.print(f"{len(findings)} claims of {run} do not hold.")
        raise typer.Exit(1)
    out.print(f"Every claim of {run} holds.")


@app.command("list")
@polite
def list_(what: Annotated[Listing, typer.Argument(help="What to list.")]) -> None:
    """List what can be named on the command line and in protocols."""
    from rich.markup import escape
    from rich.table import Table

    table = Table("name", "what it is", box=None, pad_edge=False)
    for name, summary in listed(what):
        table.add_row(escape(name), escape(summary))
    out.print(table)


@app.command()
@polite
def demo(
    out_dir: Out = Path("runs/demo"),
    protocol: Protocol = "quick",
    limit: Limit = 50,
    seed: Seed = 0,
) -> None:
    """Audit the small checkpoints that come with robusteval on real digits."""
    from robusteval.data import read_images

    images = read_images("digits", limit)
    paths = sorted((Path(__file__).parents[1] / "demo").glob("*.safetensors"))
    models = _opened([str(path) for path in paths], "digits-cnn", images, None, None)
    _audit(models, images, protocol, out_dir, seed=seed, limit=limit)


def main() -> None:
    """The console script."""
    app()


def _opened(paths: list[str], arch: str | None, images: Images, mean: str | None, std: str | None) -> list[Classifier]:
    """Checkpoint files as classifiers of images like these."""
    from robusteval.models.checkpoints import open_checkpoint

    normalisation = {"mean": _floats(mean, "--mean"), "std": _floats(std, "--std")}
    return [open_checkpoint(path, arch, input_shape=images.shape, **normalisation) for path in paths]


def _audit(
    models: list[Classifier], images: Images, protocol: str | AuditProtocol, folder: Path, **options: Any
) -> list[Run]:
    """Run the protocol under progress bars and report on every run."""
    from robusteval.auditing.together import audit_together
    from robusteval.core.progress import Bars
    from robusteval.reports.formats.transfer import write_transfer_matrix

    command = ["robusteval", *sys.argv[1:]]
    with Bars(err) as bars:
        runs = audit_together(models, images, protocol, folder, progress=bars, command=command, **options)
    for run in runs:
        if len(runs) > 1:
            out.rule(run.path.name)
        _report(run)
    if len(runs) > 1 and (written := write_transfer_matrix(runs, folder)):
        out.print(f"Transfer matrix: {written}", soft_wrap=True, highlight=False)
    return runs


def _report(run: Run) -> None:
    from robusteval.core.progress import Bars
    from robusteval.reports import summarise, write_report
    from robusteval.reports.formats.terminal import headline_table

    out.print(headline_table(summarise(run)))
    with Bars(err) as bars:
        path = write_report(run, bars)
    out.print(f"Report: {path}", soft_wrap=True, highlight=False)


def _whole(text: str) -> int | str:
    """A number, or the word as it is."""
    return int(text) if text.isdecimal() else text


def _floats(text: str | None, option: str) -> tuple[float, ...] | None:
    if text is None:
        return None
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise UserError(f"expected {option} as numbers with commas between them, got '{text}'") from None
