"""The command line: arguments and printing, nothing else. Heavy imports wait until a command needs them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from robusteval.cli.listing import Listing, listed
from robusteval.cli.options import (
    ArchOption,
    BatchSizeOption,
    BinaryOption,
    CheckpointsArgument,
    ClassesOption,
    DataOption,
    DeviceOption,
    DTypeOption,
    EotOption,
    LimitOption,
    MeanOption,
    OutOption,
    ProtocolOption,
    SampleOption,
    SeedOption,
    StdOption,
    StrictOption,
    TrustOption,
)
from robusteval.cli.running import (
    audit_and_report,
    err,
    explains_mistakes,
    open_checkpoints,
    out,
    print_paper_tables,
    print_report,
    whole,
)
from robusteval.cli.training import train_app

app = typer.Typer(
    help="Robustness evaluation and certification of trained image classifiers.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

app.add_typer(train_app, name="train")


@app.command()
@explains_mistakes
def audit(
    checkpoints: CheckpointsArgument,
    data: DataOption,
    out_dir: OutOption,
    arch: ArchOption = None,
    protocol: ProtocolOption = "quick",
    limit: LimitOption = None,
    classes: ClassesOption = None,
    sample: SampleOption = None,
    seed: SeedOption = 0,
    device: DeviceOption = "auto",
    dtype: DTypeOption = "float32",
    batch_size: BatchSizeOption = "auto",
    source: Annotated[list[str] | None, typer.Option(help="Checkpoint to transfer attacks from; repeatable.")] = None,
    source_arch: Annotated[str | None, typer.Option(help="Architecture of the sources, if not --arch.")] = None,
    mean: MeanOption = None,
    std: StdOption = None,
    binary: BinaryOption = False,
    eot: EotOption = 1,
    strict: StrictOption = False,
    trust: TrustOption = None,
) -> None:
    """Bracket the minimum adversarial distance of each image, from below and from above, and write a report.

    Several checkpoints are audited side by side, each into a directory of its own name, with the others as sources of
    its transfer attacks; the matrix of sources and targets is written beside them, and of a paper's protocol the
    paper's tables over all of them.
    """
    from robusteval.data.choice import read_chosen

    images = read_chosen(data, limit, sample, seed, classes=classes)
    audit_and_report(
        open_checkpoints(checkpoints, arch, images, mean, std, binary, trust),
        images,
        protocol,
        out_dir,
        sources=open_checkpoints(source or [], source_arch or arch, images, mean, std, binary, trust),
        seed=seed,
        device=device,
        dtype=dtype,
        batch_size=whole(batch_size),
        limit=limit,
        sample=sample,
        strict=strict,
        eot=eot,
    )


@app.command()
@explains_mistakes
def certify(
    checkpoints: CheckpointsArgument,
    data: DataOption,
    out_dir: OutOption,
    arch: ArchOption = None,
    protocol: ProtocolOption = "certify",
    limit: LimitOption = None,
    classes: ClassesOption = None,
    sample: SampleOption = None,
    seed: SeedOption = 0,
    device: DeviceOption = "auto",
    dtype: DTypeOption = "float32",
    batch_size: BatchSizeOption = "auto",
    mean: MeanOption = None,
    std: StdOption = None,
    binary: BinaryOption = False,
    strict: StrictOption = False,
    trust: TrustOption = None,
) -> None:
    """Certify each image, without attacking it: the certificates of a protocol, and one page that says in plain words
    what they guarantee and what they do not."""
    from robusteval.auditing.protocol import certificates_only, read_protocol
    from robusteval.data.choice import read_chosen
    from robusteval.reports.certification.page import write_certification

    images = read_chosen(data, limit, sample, seed, classes=classes)
    runs = audit_and_report(
        open_checkpoints(checkpoints, arch, images, mean, std, binary, trust),
        images,
        certificates_only(read_protocol(protocol)),
        out_dir,
        seed=seed,
        device=device,
        dtype=dtype,
        batch_size=whole(batch_size),
        limit=limit,
        sample=sample,
        strict=strict,
    )
    for run in runs:
        out.print(f"Certification: {write_certification(run)}", soft_wrap=True, highlight=False)


@app.command()
@explains_mistakes
def report(run: Annotated[Path, typer.Argument(help="A run directory.")]) -> None:
    """Write report.html, report.md and the figures of a run again."""
    from robusteval.results.run import Run

    print_report(Run.open(run))


@app.command()
@explains_mistakes
def leaderboard(
    runs: Annotated[list[Path], typer.Argument(help="Run directories of the same protocol on the same images.")],
    out_dir: Annotated[Path, typer.Option("--out", help="Directory to write.")] = Path("leaderboard"),
    add: Annotated[Path | None, typer.Option(help="A leaderboard.json, or its folder, to stand beside.")] = None,
) -> None:
    """Compare audited models: a sortable table with places that say what the images can tell apart. Runs of a paper's
    protocol give the paper's tables too."""
    from robusteval.reports import leaderboard as boards
    from robusteval.reports.papers.write import write_paper_tables
    from robusteval.results.run import Run

    opened, beside = [Run.open(run) for run in runs], boards.read_board(add) if add else None
    board = boards.leaderboard(opened, beside)
    out.print(f"Leaderboard: {boards.write_board(board, out_dir)}", soft_wrap=True, highlight=False)
    earlier, gone = boards.earlier_runs(beside, opened) if beside else ([], [])
    pages = write_paper_tables([*earlier, *opened], out_dir)
    print_paper_tables(pages)
    if pages and gone:
        err.print(f"Without {', '.join(gone)}: not there as it was audited.", soft_wrap=True, highlight=False)


@app.command()
@explains_mistakes
def verify(
    run: Annotated[Path, typer.Argument(help="A run directory.")],
    checkpoint: Annotated[str | None, typer.Option(help="The model, if its file has moved.")] = None,
    trust: Annotated[
        list[Path] | None,
        typer.Option(
            help="A file that may be run: a Python file of the run's methods or network, or a model that is a program; "
            "repeatable."
        ),
    ] = None,
    witnesses_only: Annotated[
        bool, typer.Option("--witnesses-only", help="Do not compute certificates and metrics again.")
    ] = False,
) -> None:
    """Run the model on the kept witnesses again and check every claim in the tables. Exit code 1 if one fails."""
    from robusteval.auditing.verify import open_model, unchecked
    from robusteval.auditing.verify import verify as check
    from robusteval.cli.progress import Bars
    from robusteval.results.run import Run

    opened = Run.open(run)
    model = open_model(opened, checkpoint, trust or ())
    with Bars(err) as bars:
        findings = list(check(opened, model, bars, recompute=not witnesses_only, trusted=trust or ()))
    for finding in findings[:50]:
        err.print(f"[red]wrong[/red] {finding}", highlight=False, soft_wrap=True)
    if findings:
        err.print(f"{len(findings)} claims of {run} do not hold.")
        raise typer.Exit(1)
    missing = unchecked(opened)
    out.print(f"Every claim of {run}{' that could be checked' if missing else ''} holds.")
    if missing:
        out.print(missing, soft_wrap=True)


@app.command("list")
@explains_mistakes
def list_(what: Annotated[Listing, typer.Argument(help="What to list.")]) -> None:
    """List what can be named on the command line and in protocols."""
    from rich.markup import escape
    from rich.table import Table

    table = Table("name", "what it is", box=None, pad_edge=False)
    for name, summary in listed(what):
        table.add_row(escape(name), escape(summary))
    out.print(table)


@app.command()
@explains_mistakes
def demo(
    out_dir: OutOption = Path("runs/demo"),
    protocol: ProtocolOption = "quick",
    limit: LimitOption = 50,
    seed: SeedOption = 0,
) -> None:
    """Audit the small checkpoints that come with robusteval on real digits."""
    from robusteval.data import read_images

    images = read_images("digits", limit)
    paths = sorted((Path(__file__).parents[1] / "demo").glob("*.safetensors"))
    models = open_checkpoints([str(path) for path in paths], "digits-cnn", images, None, None)
    audit_and_report(models, images, protocol, out_dir, seed=seed, limit=limit)


def main() -> None:
    """The console script."""
    app()
