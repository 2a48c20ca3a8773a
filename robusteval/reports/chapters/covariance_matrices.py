"""Second moments of perturbations, of images and of long-range noise, drawn as matrices."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from robusteval.analysis.metrics.covariance import Shape, long_range_part, shown_entries, shown_part
from robusteval.analysis.metrics.measured import MeasuredStage
from robusteval.reports.figures.drawing import Plot

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ZETAS = (1, 2, 4, 8)
"""Decay lengths of the long-range noise of SGR's figure 5."""
PANELS = 4
IMAGES = "images"


def matrices(found: Sequence[MeasuredStage], shape: Shape) -> list[Plot]:
    """Of the stages that kept theirs."""
    kept = [stage for stage in found if "perturbations" in stage.arrays]
    return [_perturbations(kept, shape), _long_range(kept[0], shape)] if kept else []


def _perturbations(found: Sequence[MeasuredStage], shape: Shape) -> Plot:
    panels = {stage.attack: shown_part(stage.arrays["perturbations"], shape) for stage in found}
    caption = (
        "Raw second moments of the perturbations that fooled the images, and of the images less their mean image, "
        "each over its largest absolute value. " + _layout(shape)
    )
    title = "Second moments of perturbations and images (SGR, figure 1)"
    panels |= {IMAGES: shown_part(found[0].arrays["images"], shape)}
    return _drawn("covariance-matrices", title, caption, panels)


def _long_range(stage: MeasuredStage, shape: Shape) -> Plot:
    panels = {f"zeta {zeta}": long_range_part(zeta, shape) for zeta in ZETAS}
    caption = (
        "Covariance of SGR's long-range correlated noise, exp(-r / zeta) within a channel and half of that across, and "
        "that of the images. " + _layout(shape)
    )
    title = "Covariance of long-range noise and of the images (SGR, figure 5)"
    panels |= {IMAGES: shown_part(stage.arrays["images"], shape)}
    return _drawn("covariance-long-range", title, caption, panels)


def _drawn(name: str, title: str, caption: str, panels: dict[str, NDArray[Any]]) -> Plot:
    across = min(len(panels), PANELS + 1)
    down = -(-len(panels) // across)
    rows = [pd.DataFrame(np.round(m, 3)).assign(matrix=label, row=range(len(m))) for label, m in panels.items()]
    data = pd.concat(rows, ignore_index=True)

    def draw(figure: Figure) -> None:
        grid = figure.subplots(down, across, squeeze=False)
        for axes in grid.flat[len(panels) :]:
            axes.set_axis_off()
        for axes, (label, matrix) in zip(grid.flat, panels.items(), strict=False):
            drawn = axes.imshow(matrix, cmap="RdBu_r", vmin=-1, vmax=1, interpolation="nearest")
            axes.set(xticks=[], yticks=[], title=label)
            axes.grid(False)
            axes.spines[:].set_visible(False)
        bar = figure.colorbar(drawn, ax=grid, shrink=0.8, aspect=15, label="of the largest")
        bar.outline.set_visible(False)

    columns = ["matrix", "row", *(c for c in data.columns if isinstance(c, int))]
    side = min(2.6, 6.4 / across)
    return Plot(name, title, caption, data[columns], draw, 0.5 + down * (side + 0.1), min(7.4, 1.0 + across * side))


def _layout(shape: Shape) -> str:
    side, whole = len(shown_entries(shape)), int(np.prod(shape))
    part = "the middle half" if side == whole // 2 else f"the middle {side}"
    channels = " and a pixel's channels are side by side" if shape[0] > 1 else ""
    return f"Pixels follow row by row{channels}; drawn is {part} of the {whole:,} pixel values."
