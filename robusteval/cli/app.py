"""The command line: arguments and printing, nothing else. Heavy imports wait until a command needs them."""

from __future__ import annotations

from importlib import metadata
from pathlib import Path
from typing import Annotated

import typer

from robusteval.cli.audits import audit, certify, demo
from robusteval.cli.defaults import options_of, read_defaults
from robusteval.cli.listing import Listing, listing
from robusteval.cli.planning import plan_audit
from robusteval.cli.running import at_place, err, explains_mistakes, out, print_paper_tables, print_report, runs_in
from robusteval.cli.terminal import Commands, print_anything
from robusteval.cli.training import train_app

app = typer.Typer(
    cls=Commands,
    help="Robustness evaluation and certification of trained image classifiers.",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
)

for command in (audit, certify, demo):
    app.command()(command)
app.command("plan")(plan_audit)
app.add_typer(train_app, name="train")


def _say_version(asked: bool) -> None:
    if asked:
        out.line(f"robusteval {metadata.version('robusteval')}")
        raise typer.Exit


@app.callback()
@explains_mistakes
def options_of_all(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", help="Say which version this is.", is_eager=True, callback=_say_version)
    ] = False,
) -> None:
    """Robustness evaluation and certification of trained image classifiers."""
    context.default_map = read_defaults(options_of(context))


@app.command()
@explains_mistakes
def report(run: Annotated[str, typer.Argument(help="A run directory, or its URL.")]) -> None:
    """Write report.html, report.md and the figures of a run again."""
    from robusteval.results.run import Run

    with at_place(run) as folder:
        print_report(Run.open(folder))


@app.command()
@explains_mistakes
def leaderboard(
    runs: Annotated[
        list[str], typer.Argument(help="Runs of one protocol on the same images, or folders of them; or URLs.")
    ],
    out_dir: Annotated[Path, typer.Option("--out", help="Directory to write.")] = Path("leaderboard"),
    add: Annotated[Path | None, typer.Option(help="A leaderboard.json, or its folder, to stand beside.")] = None,
) -> None:
    """Compare audited models: a sortable table with places that say what the images can tell apart. Runs of a paper's
    protocol give the paper's tables too."""
    from robusteval.cli.progress import Bars
    from robusteval.reports import leaderboard as boards
    from robusteval.reports.papers.write import write_paper_tables

    opened, beside = runs_in(runs), boards.read_board(add) if add else None
    with Bars(err) as bars:
        bars.stage("leaderboard", 0, 0)
        board = boards.leaderboard(opened, beside)
        written = boards.write_board(board, out_dir)
        earlier, gone = boards.earlier_runs(beside, opened) if beside else ([], [])
        pages = write_paper_tables([*earlier, *opened], out_dir)
    out.line(f"Leaderboard: {written}")
    print_paper_tables(pages)
    if pages and gone:
        err.line(f"Without {', '.join(gone)}: not there as it was audited.")


@app.command()
@explains_mistakes
def verify(
    run: Annotated[str, typer.Argument(help="A run directory, or its URL.")],
    checkpoint: Annotated[str | None, typer.Option(help="The model, if its file has moved.")] = None,
    trust: Annotated[
        list[Path] | None,
        typer.Option(
            help="A file that may be run: a Python file of the run's methods or network, or a model that is a program; "
            "repeatable."
        ),
    ] = None,
    arch: Annotated[
        str | None, typer.Option(help="The network, FILE.py:FUNCTION, which may be run, instead of the run's word.")
    ] = None,
    data: Annotated[str | None, typer.Option(help="The data set that the images are said to be of.")] = None,
    attacks: Annotated[
        bool, typer.Option("--attacks", help="Run the attacks again on every image, not on a few drawn at random.")
    ] = False,
    sample: Annotated[
        int | None,
        typer.Option(min=1, help="Compute again the shards of N images drawn at random, not all.", metavar="N"),
    ] = None,
    witnesses_only: Annotated[
        bool, typer.Option("--witnesses-only", help="Do not compute certificates and metrics again.")
    ] = False,
    out_dir: Annotated[Path | None, typer.Option("--out", help="Folder for verification.json and .html.")] = None,
    sign: Annotated[Path | None, typer.Option(help="Private ssh key that signs verification.json.")] = None,
    check: Annotated[Path | None, typer.Option(help="A verification.json to compare, instead of verifying.")] = None,
    allowed_signers: Annotated[Path | None, typer.Option(help="Who may have signed it, as OpenSSH reads it.")] = None,
) -> None:
    """Check every claim of a run again: files, tables, manifest, and by the model what can be computed. Exit code 1 if
    one fails, 3 if none does but some wait for your permission, a model or a package."""
    from robusteval.cli.verifying import compare_record, print_verification
    from robusteval.results.places import brought

    folder = brought(run)
    if check:
        code = compare_record(folder, check, allowed_signers)
    else:
        options = (checkpoint, trust or (), arch, data, attacks, witnesses_only)
        code = print_verification(folder, *options, folder=out_dir, key=sign, sample=sample)
    if code:
        raise typer.Exit(code)


@app.command("list")
@explains_mistakes
def list_(what: Annotated[Listing, typer.Argument(help="What to list.")]) -> None:
    """List what can be named on the command line and in protocols."""
    out.print(listing(what))


def main() -> None:
    """The console script."""
    print_anything()
    app()
