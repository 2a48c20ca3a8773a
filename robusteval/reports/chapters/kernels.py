"""How smooth the kernels of the convolutions are, and what those of the first one look like."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from robusteval.analysis import show
from robusteval.analysis.metrics.kernels import layers, spectra
from robusteval.analysis.metrics.measured import MeasuredStage, measured_stages
from robusteval.analysis.results import Results
from robusteval.reports.chapters.base import Chapter
from robusteval.reports.figures.drawing import FAINT, Plot, legend, legend_height, style
from robusteval.reports.grid import Grid

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DRAWN = 8
"""Of more layers so many are drawn, evenly from the first to the last."""
ROWS = {"kernel": "(a) kernel", "magnitude": "(b) |DFT|", "response": "(c) response"}


def plots(results: Results) -> list[Plot]:
    found = measured_stages(results, "kernels")
    return [*(_images(stage) for stage in found if stage.arrays), *(_spectra(stage) for stage in found)]


def _spectra(stage: MeasuredStage) -> Plot:
    data = spectra(stage)
    order = [layer for layer in layers(stage)["layer"] if layer in set(data["layer"])]
    drawn = [order[i] for i in np.unique(np.linspace(0, len(order) - 1, min(len(order), DRAWN)).round().astype(int))]

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        axes.axhline(1, color=FAINT, lw=0.9)
        for i, layer in enumerate(drawn):
            colour, dash = style(i)
            line = data[data["layer"] == layer]
            axes.plot(line["frequency"], line["energy"], color=colour, ls=dash, lw=1.6, label=layer)
        axes.axvline(0.25, color=FAINT, lw=0.9, ls=":")
        axes.set(xlabel="radial frequency (cycles a pixel)", ylabel="energy, relative to white", xlim=(0, None))
        axes.set_ylim(0, None)
        legend(figure, axes)

    caption = (
        "Mean squared Fourier magnitude of the kernels of each convolution, over its mean over all frequencies: 1 at "
        "every frequency for white kernels. The dotted line is half the Nyquist frequency."
    )
    title = f"{stage.title}: spectrum of each layer (SmoothKernels, figure 1 b)"
    return Plot(f"kernel-spectrum-{stage.label}", title, caption, data, draw, 2.9 + legend_height(drawn))


def _images(stage: MeasuredStage) -> Plot:
    arrays = stage.arrays
    count = sum(key.startswith("kernel/") for key in arrays)
    shown = {kind: title for kind, title in ROWS.items() if f"{kind}/0" in arrays}
    data = pd.concat([_table(i, arrays[f"kernel/{i}"]) for i in range(count)], ignore_index=True)

    def draw(figure: Figure) -> None:
        grid = figure.subplots(len(shown), count, squeeze=False)
        for axes_row, (kind, title) in zip(grid, shown.items(), strict=True):
            for i, axes in enumerate(axes_row):
                axes.imshow(visible(arrays[f"{kind}/{i}"], kind), cmap="gray", interpolation="nearest")
                axes.grid(False)
                axes.spines[:].set_visible(False)
                axes.set(xticks=[], yticks=[])
                if kind == "kernel":
                    axes.set_title(f"kernel {i + 1}")
            axes_row[0].set_ylabel(title)

    first = stage.results.images["image_id"].min()
    caption = (
        "The first kernels of the first convolution: their weights (mid-grey is zero; the mean over input channels "
        "unless these are colours), their Fourier magnitude with frequency 0 in the middle, from 0 in black to the "
        f"largest in white, and their response to the image {first}, from the smallest to the largest."
    )
    title = f"{stage.title} of the first layer (SmoothKernels, figure 1)"
    width = min(7.4, 0.6 + 1.5 * count)
    return Plot(f"kernels-{stage.label}", title, caption, data, draw, 0.3 + 1.45 * len(shown), width)


def visible(array: NDArray[Any], kind: str) -> NDArray[Any]:
    """(H, W) or, for three channels, (H, W, 3), in [0, 1]."""
    colours = array.transpose(1, 2, 0) if len(array) == 3 else array.mean(0)
    high = np.abs(colours).max() if kind == "kernel" else colours.max()
    low = {"kernel": -high, "magnitude": 0.0}.get(kind, colours.min())
    visible: NDArray[Any] = (colours - low) / ((high - low) or 1.0)
    # A grey image of three equal channels keeps matplotlib from stretching it again.
    return visible if visible.ndim == 3 else np.repeat(visible[..., None], 3, axis=2)


def _table(kernel: int, weights: NDArray[Any]) -> pd.DataFrame:
    places = np.indices(weights.shape).reshape(3, -1)
    return pd.DataFrame(
        {
            "kernel": kernel + 1,
            **dict(zip(("channel", "row", "column"), places, strict=True)),
            "weight": weights.ravel(),
        }
    )


def grids(results: Results) -> list[Grid]:
    return [_smoothness(stage) for stage in measured_stages(results, "kernels")]


def _smoothness(stage: MeasuredStage) -> Grid:
    table = layers(stage)
    rows = [
        [
            str(layer),
            show.significant(penalty),
            show.significant(ratio),
            "-" if np.isnan(share) else show.percent(share),
        ]
        for layer, penalty, ratio, share in table.itertuples(index=False)
    ]
    note = (
        "R0: squared differences of neighbouring weights, each pair once. Over the sum of squared weights it is free "
        "of their scale: 0 for constant kernels, below 8 always; 3 x 3 white noise has 2.67 on average. Energy above "
        "half the Nyquist frequency: 80 % for white kernels."
    )
    headings = ["Layer", "R0", "R0 / sum of squares", "energy above half Nyquist"]
    return Grid("Smoothness of the convolutions (SmoothKernels, section 3)", headings, rows, note=note)


CHAPTER = Chapter("kernels", "Kernels", plots, grids)
