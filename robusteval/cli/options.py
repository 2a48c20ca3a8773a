"""The options that several commands share: their types and help. An option of one command stands in its signature."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

CheckpointsArgument = Annotated[
    list[str], typer.Argument(help="A .safetensors, .pt, .pth, .pt2 or TorchScript file; or several of them.")
]
DataOption = Annotated[str, typer.Option(help="A data set: see `robusteval list data`.")]
OutOption = Annotated[Path, typer.Option("--out", help="Directory to write, or to continue.")]
ArchOption = Annotated[str | None, typer.Option(help="NAME, or FILE.py:FUNCTION that builds the network.")]
ProtocolOption = Annotated[str, typer.Option(help="NAME, or a FILE.toml.")]
LimitOption = Annotated[int | None, typer.Option(help="Use only the first N images.")]
SampleOption = Annotated[int | None, typer.Option(help="Use N images drawn at random by --seed.")]
SeedOption = Annotated[int, typer.Option(help="Seed of every random stream.")]
DeviceOption = Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")]
DTypeOption = Annotated[str, typer.Option(help="float32 or float64.")]
BatchSizeOption = Annotated[str, typer.Option(help="auto measures which is fastest.")]
MeanOption = Annotated[str | None, typer.Option(help="Normalisation, one value a channel: 0.49,0.48,0.45")]
StdOption = Annotated[str | None, typer.Option(help="Normalisation, one value a channel.")]
