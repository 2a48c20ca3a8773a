"""The command line: arguments and printing, nothing else. Heavy imports wait until a command needs them.

Longer than 250 lines, since the signature of every command stands here.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from robusteval.cli.listing import Listing, listing
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
    OtherDataOption,
    OutOption,
    PropertyOption,
    ProtocolOption,
    SampleOption,
    SeedOption,
    StdOption,
    StrictOption,
    TrustOption,
)
from robusteval.cli.properties import check_asked, property_image, property_verdict
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
from robusteval.cli.terminal import Commands, print_anything
from robusteval.cli.training import train_app

app = typer.Typer(
    cls=Commands,
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
    out_dir: OutOption,
    data: OtherDataOption = None,
    property_: PropertyOption = None,
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

    check_asked(data, property_)
    images, budget = property_image(property_, checkpoints) if property_ else (None, 0.0)
    images = images or read_chosen(str(data), limit, sample, seed, classes=classes)
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
        out.line(f"Certification: {write_certification(run)}")
        if property_:
            out.line(property_verdict(property_, run, budget))


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
    out.line(f"Leaderboard: {boards.write_board(board, out_dir)}")
    earlier, gone = boards.earlier_runs(beside, opened) if beside else ([], [])
    pages = write_paper_tables([*earlier, *opened], out_dir)
    print_paper_tables(pages)
    if pages and gone:
        err.line(f"Without {', '.join(gone)}: not there as it was audited.")


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
    arch: Annotated[
        str | None, typer.Option(help="The network, FILE.py:FUNCTION, which may be run, instead of the run's word.")
    ] = None,
    data: Annotated[str | None, typer.Option(help="The data set that the images are said to be of.")] = None,
    attacks: Annotated[
        bool, typer.Option("--attacks", help="Run the attacks again on every image, not on a few drawn at random.")
    ] = False,
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

    if check:
        code = compare_record(run, check, allowed_signers)
    else:
        options = (checkpoint, trust or (), arch, data, attacks, witnesses_only)
        code = print_verification(run, *options, folder=out_dir, key=sign)
    if code:
        raise typer.Exit(code)


@app.command("list")
@explains_mistakes
def list_(what: Annotated[Listing, typer.Argument(help="What to list.")]) -> None:
    """List what can be named on the command line and in protocols."""
    out.print(listing(what))


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
    print_anything()
    app()
