"""The options that several commands share: their types and help. An option of one command stands in its signature."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Checkpoints = Annotated[
    list[str], typer.Argument(help="A .safetensors, .pt, .pth, .pt2 or TorchScript file; or several of them.")
]
Data = Annotated[str, typer.Option(help="A data set: see `robusteval list data`.")]
Out = Annotated[Path, typer.Option("--out", help="Directory to write, or to continue.")]
Arch = Annotated[str | None, typer.Option(help="NAME, or FILE.py:FUNCTION that builds the network.")]
ProtocolName = Annotated[str, typer.Option(help="NAME, or a FILE.toml.")]
Limit = Annotated[int | None, typer.Option(help="Use only the first N images.")]
Seed = Annotated[int, typer.Option(help="Seed of every random stream.")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")]
DType = Annotated[str, typer.Option(help="float32 or float64.")]
BatchSize = Annotated[str, typer.Option(help="auto measures which is fastest.")]
Mean = Annotated[str | None, typer.Option(help="Normalisation, one value a channel: 0.49,0.48,0.45")]
Std = Annotated[str | None, typer.Option(help="Normalisation, one value a channel.")]
