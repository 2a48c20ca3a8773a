"""robusteval plan, and the line before each audit: what will be run, and what it may cost."""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from robusteval.cli.asked import AskedImages, asks_for_images
from robusteval.cli.forecasting import forecasts, planned, shortened
from robusteval.cli.options import (
    ArchOption,
    BatchSizeOption,
    BinaryOption,
    CheckpointsArgument,
    DeviceOption,
    DTypeOption,
    EotOption,
    MeanOption,
    ProtocolOption,
    SeedOption,
    SourceArchOption,
    SourceOption,
    StdOption,
    TrustOption,
)
from robusteval.cli.running import explains_mistakes, open_checkpoints, out, whole
from robusteval.core.foreign import one_line
from robusteval.core.times import spoken

if TYPE_CHECKING:
    from robusteval.auditing.forecast import Forecast

BESIDES = (
    "Passes are those of images that no attack breaks, which others undercut; times are the model's passes alone, "
    "as measured just now: what the methods compute besides comes on top."
)


@explains_mistakes
@asks_for_images
def plan_audit(
    checkpoints: CheckpointsArgument,
    asked: AskedImages,
    arch: ArchOption = None,
    protocol: ProtocolOption = "quick",
    seed: SeedOption = 0,
    device: DeviceOption = "auto",
    dtype: DTypeOption = "float32",
    batch_size: BatchSizeOption = "auto",
    source: SourceOption = None,
    source_arch: SourceArchOption = None,
    mean: MeanOption = None,
    std: StdOption = None,
    binary: BinaryOption = False,
    eot: EotOption = 1,
    trust: TrustOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print it for programs.")] = False,
) -> None:
    """Say what an audit with these arguments would run, and estimate what it would cost: passes of the model, and
    seconds as a forward and a backward pass take them here. Runs no method and writes nothing."""
    from robusteval.auditing.protocol import read_protocol

    methods = read_protocol(protocol)
    images = asked.read(seed)
    models = open_checkpoints(checkpoints, arch, images, mean, std, binary, trust)
    others = open_checkpoints(source or [], source_arch or arch, images, mean, std, binary, trust)
    options = {"device": device, "dtype": dtype, "batch_size": whole(batch_size), "eot": eot}
    found = forecasts(models, images, methods, others, **options)
    if as_json:
        typer.echo(json.dumps([_as_json(one) for one in found], indent=1))
        return
    for one in found:
        out.line(planned(one))
        out.print(_table(one))
    out.line(BESIDES)


def _table(found: Forecast) -> Table:
    table = Table("stage", box=None, pad_edge=False)
    for heading in ("forward", "backward", "about"):
        table.add_column(heading, justify="right", no_wrap=True)
    for stage in found.stages:
        known, seconds = stage.passes, stage.seconds
        cells = ("-", "-") if known is None else (shortened(known.forward), shortened(known.backward))
        time = "-" if seconds is None or not math.isfinite(seconds) else spoken(seconds)
        table.add_row(one_line(stage.name), *cells, time)
    return table


def _as_json(found: Forecast) -> dict[str, object]:
    """JSON knows no NaN: what was not measured is null."""

    def clean(value: object) -> object:
        if isinstance(value, dict):
            return {key: clean(own) for key, own in value.items()}
        if isinstance(value, list | tuple):
            return [clean(own) for own in value]
        return None if isinstance(value, float) and not math.isfinite(value) else value

    cleaned = clean(asdict(found) | {"seconds": found.seconds, "unknown": found.unknown})
    assert isinstance(cleaned, dict)
    return cleaned
