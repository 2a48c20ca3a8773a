"""SmoothKernels (ICLR 2020 submission): its curves and galleries over several models."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from robusteval.analysis import names
from robusteval.analysis.by_label import ByLabel
from robusteval.analysis.curves import curve
from robusteval.analysis.metrics.class_images import seen
from robusteval.analysis.metrics.deception import deceptive
from robusteval.analysis.show import percent
from robusteval.core.norms import Norm
from robusteval.reports.chapters import targeted_grid
from robusteval.reports.chapters.deception import images_of, witnesses
from robusteval.reports.chapters.kernels import ROWS, visible
from robusteval.reports.figures.drawing import Plot, legend_height, share_axis
from robusteval.reports.figures.mosaic import COLUMNS, Mosaic, Tile, short
from robusteval.reports.papers.overlays import colour_and_marker, measured, models_legend
from robusteval.reports.papers.smoothkernels import ATTACKS, CURVES, DECEPTIONS, KERNELS
from robusteval.results.keeping import kept_ids, number_left_out

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MAXIMISED = "activation-maximization"
"""Label in the protocol."""
CLASSES = 4
"""In the gallery of deceptive examples, as in the paper's figure 2."""
FIGURES = {"FGSM": "figure-2", "ADef": "figure-38"}


def figures(models: Sequence[ByLabel]) -> list[Plot]:
    """Kernels, deceptive examples, images of classes, curves by attack, and the targeted attacks model by model."""
    return [
        *_kernels(models),
        *(plot for attack, label in DECEPTIONS.items() for plot in _deceptive(models, attack, label)),
        *_maximised(models),
        *(plot for name in CURVES for plot in _curves(models, name)),
        *_targeted(models),
    ]


def _called(model: ByLabel) -> str:
    """Short enough to stand beside small images: the table of models says which row of the tables it is."""
    return model.manifest.model.name


def _chunks(models: Sequence[ByLabel], most: int) -> list[tuple[str, Sequence[ByLabel]]]:
    """As many models a figure as fit side by side, with what its name ends in."""
    return [(f"-{i // most + 1}" if i else "", models[i : i + most]) for i in range(0, len(models), most)]


def _kernels(models: Sequence[ByLabel]) -> list[Plot]:
    seen_of = [(m, s) for m in models if (s := measured(m, KERNELS)) is not None and "kernel/0" in s.arrays]
    found, by_model = [], {m.name: s for m, s in seen_of}
    for end, some in _chunks([m for m, _ in seen_of], COLUMNS):
        kinds = [kind for kind in ROWS if all(f"{kind}/0" in by_model[m.name].arrays for m in some)]
        tiles = [[Tile(_four(by_model[m.name].arrays, kind)) for m in some] for kind in kinds]
        mosaic = Mosaic(tiles, [ROWS[kind] for kind in kinds], [_called(m) for m in some])
        caption = (
            "The first kernels of the first convolution of each model (mid-grey is zero), their Fourier magnitude with "
            "frequency 0 in the middle, and their responses to the first image; each from its own smallest to its "
            "largest value."
        )
        data = pd.DataFrame([{"model": m.name, "file": _called(m)} for m in some])
        title = "Figure 1: kernels of the first layer"
        found.append(Plot(f"figure-1{end}", title, caption, data, mosaic.draw, mosaic.height))
    return found


def _four(arrays: Any, kind: str) -> NDArray[Any]:
    """The first four images of a kind, two by two with a white line between them, (3, H, W)."""
    shown = [visible(arrays[f"{kind}/{i}"], kind).transpose(2, 0, 1) for i in range(4) if f"{kind}/{i}" in arrays]
    # Enlarged, so that the lines between them are thin beside the pixels of a small kernel.
    times = max(1, 24 // shown[0].shape[1])
    shown = [np.kron(image, np.ones((1, times, times))) for image in shown]
    _, height, width = shown[0].shape
    gap = max(2, height // 16)
    sheet = np.ones((3, 2 * height + gap, 2 * width + gap), dtype=np.float64)
    for i, image in enumerate(shown):
        top, left = (i // 2) * (height + gap), (i % 2) * (width + gap)
        sheet[:, top : top + height, left : left + width] = image
    return sheet[:, : height if len(shown) <= 2 else None, : width if len(shown) == 1 else None]


def _deceptive(models: Sequence[ByLabel], attack: str, label: str) -> list[Plot]:
    """The image of each class whose witnesses deceive with the highest confidence, the mean over the models."""
    stages = [(m, s) for m in models if (s := measured(m, label)) is not None]
    chosen = kept_ids(stages[0][0].manifest, stages[0][0].images["image_id"]) if stages else None
    tables = [deceptive(stage).assign(model=model.name) for model, stage in stages]
    tables = [table if chosen is None else table[table["image_id"].isin(chosen)] for table in tables]
    if not tables or (data := pd.concat(tables, ignore_index=True)).empty:
        return []
    means = data.groupby(["label", "image_id"], as_index=False)["confidence"].agg(["mean", "count"])
    best = means.sort_values(["label", "count", "mean"], ascending=[True, False, False], kind="stable")
    best = best.drop_duplicates("label").head(CLASSES)
    ids, classes = best["image_id"].tolist(), models[0].classes
    images, found = images_of(stages[0][0], ids), []
    data = data[data["image_id"].isin(ids)].reset_index(drop=True)
    for end, some in _chunks([m for m, _ in stages], COLUMNS - 1):
        columns = [[Tile(images[i]) if i in images else None for i in ids]]
        for model, stage in stages:
            if model in some:
                kept, own = witnesses(stage, ids), data[data["model"] == model.name].set_index("image_id")
                columns.append([_fooled(kept, own, i, classes) for i in ids])
        rows = [list(row) for row in zip(*columns, strict=True)]
        mosaic = Mosaic(rows, [classes[k] for k in best["label"]], ["original", *map(_called, some)])
        caption = (
            f"Of each class the image whose closest witnesses by {attack} deceive most models, among these with the "
            "highest confidence on average; below each the class that the model sees and its softmax probability. An "
            "empty place: the attack has no witness of it, or the model is wrong about the image itself."
        )
        if number_left_out(stages[0][0].manifest):
            caption += " Of the images that the runs keep."
        title = f"{FIGURES[attack].replace('figure-', 'Figure ')}: the most deceptive examples of {attack}"
        found.append(Plot(f"{FIGURES[attack]}{end}", title, caption, data, mosaic.draw, mosaic.height))
    return found


def _fooled(kept: Any, own: pd.DataFrame, image_id: str, classes: Sequence[str]) -> Tile | None:
    if image_id not in kept or image_id not in own.index:
        return None
    wrong, confidence = own["wrong"].to_dict()[image_id], own["confidence"].to_dict()[image_id]
    return Tile(kept[image_id], f"{short(classes[int(wrong)], 11)}\n{percent(float(confidence))}")


def _maximised(models: Sequence[ByLabel]) -> list[Plot]:
    stages = [(m, s) for m in models if (s := measured(m, MAXIMISED)) is not None and s.arrays]
    if not stages:
        return []
    tables = [seen(stage).head(COLUMNS).assign(model=model.name) for model, stage in stages]
    classes = tables[0]["class"].tolist()
    first = stages[0][1].arrays
    rows: list[list[Tile | None]] = [[Tile(first[f"start-{k}"]) if f"start-{k}" in first else None for k in classes]]
    for (_, stage), table in zip(stages, tables, strict=True):
        shown = table.set_index("class")["probability"]
        rows.append(
            [
                Tile(stage.arrays[f"class-{k}"], percent(shown[k]) if k in shown and pd.notna(shown[k]) else "-")
                if f"class-{k}" in stage.arrays
                else None
                for k in classes
            ]
        )
    mosaic = Mosaic(rows, ["noise", *(_called(m) for m, _ in stages)], tables[0]["name"].tolist())
    caption = (
        "Noise, and what projected gradient ascent on the logit of each class makes of it on each model; below it the "
        "softmax probability of the class."
    )
    data = pd.concat(tables, ignore_index=True)
    return [Plot("figure-3", "Figures 3 to 6: what each model sees", caption, data, mosaic.draw, mosaic.height)]


def _curves(models: Sequence[ByLabel], name: str) -> list[Plot]:
    norm, budgets = CURVES[name]
    ran = {title: label for title, label in ATTACKS.items() if any(model.stage(label) for model in models)}
    parts = [
        curve(model.distances(norm, label)).assign(attack=title, model=model.name)
        for title, label in ran.items()
        for model in models
        if model.stage(label)
    ]
    if not parts:
        return []
    data = pd.concat(parts, ignore_index=True).rename(columns={"budget": "distance"})
    data = data[["attack", "model", "distance", "share", "low", "high"]]
    end, down = _end(data["distance"], budgets[-1]), -(-len(ran) // 2)

    def draw(figure: Figure) -> None:
        panels = figure.subplots(down, 2, squeeze=False, sharex=True, sharey=True).ravel()
        for axes in panels[len(ran) :]:
            axes.set_axis_off()
        for axes, attack in zip(panels, ran, strict=False):
            for i, model in enumerate(models):
                line = data[(data["attack"] == attack) & (data["model"] == model.name)]
                if len(line):
                    colour, marker = colour_and_marker(i)
                    x, y = (
                        [*line["distance"], max(end, line["distance"].max())],
                        [*line["share"], line["share"].iloc[-1]],
                    )
                    axes.step(x, y, where="post", color=colour, lw=1.3, marker=marker, ms=3, markevery=0.15)
            axes.set(title=attack, xlim=(0, end))
            axes.tick_params(labelbottom=True)
            share_axis(axes)
        for axes in panels[max(0, len(ran) - 2) : len(ran)]:
            axes.set_xlabel(names.axis(norm))
        for axes in panels[: len(ran) : 2]:
            axes.set_ylabel("images still right")
        models_legend(figure, [model.name for model in models], {})

    caption = (
        f"Share of images without a witness of the attack within each {Norm(norm).symbol} distance, whatever norm it "
        "searches in. Where a curve ends above 0, the search failed on what is left."
    )
    title = f"{name.replace('figure-', 'Figure ')}: accuracy against distance, {Norm(norm).symbol}"
    height = 0.6 + 1.7 * down + legend_height([model.name for model in models])
    return [Plot(name, title, caption, data, draw, height)]


def _end(distances: pd.Series[float], most: float) -> float:
    """Where the axis ends: what almost all curves need."""
    return min(float(np.quantile(distances, 0.98)), most) or most


def _targeted(models: Sequence[ByLabel]) -> list[Plot]:
    """Figures 10 to 37 are one grid a model."""
    return [
        replace(plot, name=f"figure-10-{i}-{k}", title=f"Figures 10 to 37: {model.name}")
        for i, model in enumerate(models, start=1)
        for k, plot in enumerate(targeted_grid.plots(model), start=1)
    ]
