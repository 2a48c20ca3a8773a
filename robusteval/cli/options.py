"""The options that several commands share: their types and help. An option of one command stands in its signature."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from robusteval.core.numbers import MOST, is_whole


def whole_number(given: str | int) -> int:
    """What --limit and --seed take: digits 0 to 9, and a sign, with nothing between them; 64 bits hold it."""
    text = str(given)
    if not is_whole(text.removeprefix("-")) or len(text) > len(str(MOST)) or abs(int(text)) > MOST:
        raise typer.BadParameter(f"expected a whole number of at most 64 bits, got '{text}'")
    return int(text)


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
OutOption = Annotated[Path, typer.Option("--out", help="Directory to write, or to continue.")]
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
    typer.Option(parser=whole_number, metavar="INTEGER", help="Use N images drawn at random by --seed."),
]
SeedOption = Annotated[int, typer.Option(parser=whole_number, metavar="INTEGER", help="Seed of every random stream.")]
DeviceOption = Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")]
DTypeOption = Annotated[str, typer.Option(help="float32 or float64.")]
BatchSizeOption = Annotated[str, typer.Option(help="auto measures which is fastest.")]
MeanOption = Annotated[str | None, typer.Option(help="Normalisation, one value a channel: 0.49,0.48,0.45")]
StdOption = Annotated[str | None, typer.Option(help="Normalisation, one value a channel.")]
StrictOption = Annotated[
    bool, typer.Option("--strict", help="Make sanity warnings errors, before the first method runs.")
]
EotOption = Annotated[int, typer.Option(help="Average a random model over so many evaluations.")]
TrustOption = Annotated[
    list[Path] | None,
    typer.Option(help="A checkpoint that is a program (.pt2, TorchScript) and may run what it holds; repeatable."),
]
BinaryOption = Annotated[bool, typer.Option("--binary", help="The network's one logit stands for two classes.")]
