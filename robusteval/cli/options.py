"""The options that several commands share: their types and help. An option of one command stands in its signature."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from robusteval.core.numbers import MOST, finite, is_whole

ALL_OF_LIMIT = "as many as --limit"
"""What stands behind --sample where the user wrote no number there."""


def whole_number(given: str | int) -> int:
    """What --limit and --seed take: digits 0 to 9, and a sign, with nothing between them; 64 bits hold it."""
    text = str(given)
    if not is_whole(text.removeprefix("-")) or len(text) > len(str(MOST)) or abs(int(text)) > MOST:
        raise typer.BadParameter(f"expected a whole number of at most 64 bits, got '{text}'")
    return int(text)


def number_to_draw(given: str | int) -> int:
    """What --sample takes: a whole number, or ALL_OF_LIMIT, which is True."""
    return True if given == ALL_OF_LIMIT else whole_number(given)


def finite_number(given: str | float) -> float:
    """What --scale takes: a decimal number or a fraction."""
    try:
        return finite(str(given))
    except ValueError:
        raise typer.BadParameter(f"expected a finite number, got '{given}'") from None


CheckpointsArgument = Annotated[
    list[str],
    typer.Argument(
        help="A .safetensors, .pt, .pth, .bin, .ckpt or .onnx file; hf:FOLDER; zoo:NAME; a .pt2 or TorchScript file "
        "with --trust; or several."
    ),
]
DataOption = Annotated[str, typer.Option(help="A data set: see `robusteval list data`.")]
OtherDataOption = Annotated[str | None, typer.Option("--data", help="A data set: see `robusteval list data`.")]
PropertyOption = Annotated[
    Path | None,
    typer.Option(
        "--property", help="A VNN-LIB file for one .onnx model, instead of --data: a box and what it must not give."
    ),
]
ClassesOption = Annotated[
    str | None,
    typer.Option(
        help="The model's classes: a FILE with one name a line, by which those of the data are looked up; or their "
        "number N, where the names of the data are 0 to N - 1 themselves."
    ),
]
OutOption = Annotated[
    str,
    typer.Option("--out", help="Directory to write, or to continue; or a URL such as s3://bucket/run.", metavar="PATH"),
]
ArchOption = Annotated[
    str | None,
    typer.Option(
        help="NAME; timm:NAME, torchvision:NAME, robustbench:NAME, hf:FOLDER; or FILE.py:FUNCTION that builds it."
    ),
]
ProtocolOption = Annotated[str, typer.Option(help="NAME, or a FILE.toml.")]
LimitOption = Annotated[
    int | None, typer.Option(parser=whole_number, metavar="INTEGER", help="Use only the first N images.")
]
SampleOption = Annotated[
    int | None,
    typer.Option(
        parser=number_to_draw,
        metavar="[INTEGER]",
        help="Use N images drawn at random by --seed; without a number as many as --limit says.",
    ),
]
ResizeOption = Annotated[
    str | None,
    typer.Option(metavar="N|HxW", help="Resize images: the shorter side to N pixels, or to H x W pixels."),
]
_CENTRE = "Cut out the centre, N x N pixels, after resizing."
CropOption = Annotated[int | None, typer.Option(parser=whole_number, metavar="INTEGER", help=_CENTRE)]
InterpolationOption = Annotated[
    str | None, typer.Option(help="Of --resize: bilinear or bicubic.", show_default="bilinear")
]
SplitOption = Annotated[
    str | None, typer.Option(help="Which part of the data: train, test, validation; DATA:train for short.")
]
ImageColumnOption = Annotated[
    str | None, typer.Option(help="The column (of a table) or array (of a file) with the images.")
]
LabelColumnOption = Annotated[str | None, typer.Option(help="The one with the labels.")]
ScaleOption = Annotated[
    float | None,
    typer.Option(
        parser=finite_number, metavar="NUMBER", help="The number that stands for white in arrays, such as 255."
    ),
]
SourceOption = Annotated[list[str] | None, typer.Option(help="Checkpoint to transfer attacks from; repeatable.")]
SourceArchOption = Annotated[str | None, typer.Option(help="Architecture of the sources, if not --arch.")]
SeedOption = Annotated[int, typer.Option(parser=whole_number, metavar="INTEGER", help="Seed of every random stream.")]
DeviceOption = Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")]
DTypeOption = Annotated[str, typer.Option(help="float32 or float64.")]
BatchSizeOption = Annotated[str, typer.Option(help="auto measures which is fastest.")]
MeanOption = Annotated[str | None, typer.Option(help="Normalisation, one value a channel: 0.49,0.48,0.45")]
StdOption = Annotated[str | None, typer.Option(help="Normalisation, one value a channel.")]
StrictOption = Annotated[
    bool, typer.Option("--strict", help="Make sanity warnings errors, before the first method runs.")
]
RequireOption = Annotated[
    list[str] | None,
    typer.Option(
        help="What each model has to reach, else exit code 4: 'linf 8/255 >= 40%' (no attack fools it), "
        "'certified l2 0.5 >= 10%', 'clean >= 90%'; repeatable."
    ),
]
WorkersOption = Annotated[
    str | None,
    typer.Option(
        help="Processes that share the work and the threads on a CPU, auto for as many as are fastest, or of Ray's "
        "workers how many; the numbers are the same.",
        metavar="N|auto",
        show_default="1, or what the Ray cluster has room for",
    ),
]
EngineOption = Annotated[
    str, typer.Option(help="Who computes: local, this machine; ray, a Ray cluster, of this machine without --address.")
]
AddressOption = Annotated[
    str | None, typer.Option(help="Of a Ray cluster that is there: auto, HOST:PORT or ray://HOST:PORT.")
]
EvidenceOption = Annotated[
    str,
    typer.Option(
        help="Whose images and adversarial examples the run keeps: all, sample (of 1,000 images drawn by --seed) or "
        "none. The numbers are the same."
    ),
]
EotOption = Annotated[int, typer.Option(help="Average a random model over so many evaluations.")]
TrustOption = Annotated[
    list[Path] | None,
    typer.Option(help="A checkpoint that is a program (.pt2, TorchScript) and may run what it holds; repeatable."),
]
BinaryOption = Annotated[bool, typer.Option("--binary", help="The network's one logit stands for two classes.")]
