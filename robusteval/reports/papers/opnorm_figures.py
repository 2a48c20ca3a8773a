"""OpNorm (2020): figures 2 to 5 over several models."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import pandas as pd

from robusteval.analysis import names
from robusteval.analysis.by_label import ByLabel
from robusteval.core.norms import Norm
from robusteval.reports.figures.drawing import Plot, legend_height, share_axis
from robusteval.reports.papers.opnorm import ALIGNMENTS, AT_DATA, AT_NOISE, ATTACKS, DEVIATIONS, LARGEST, MAPS
from robusteval.reports.papers.overlays import Panel, colour_and_marker, models_legend, overlay
from robusteval.results.records import AttackRecord

if TYPE_CHECKING:
    from matplotlib.figure import Figure

WAYS = {"random": "-", "adversarial": "--"}
"""Direction -> dashes."""
DISTANCE = "L2 distance from the image"
MAGNITUDE = "magnitude of the noise"


def figures(models: Sequence[ByLabel]) -> list[Plot]:
    return [*_spectra(models), *_accuracy(models), *_linearity(models), *_patterns(models)]


def _spectra(models: Sequence[ByLabel]) -> list[Plot]:
    cosine = "|cosine| with the singular vector"
    aligned = {"alignment": "-", "alignment_twin": ":"}
    panels = [
        Panel(MAPS["features"], {"singular_value": "-"}, "Singular values", "rank", "singular value", logarithmic=True),
        Panel(ALIGNMENTS["L2"], aligned, "Alignment of L2 ascent", "rank", cosine),
    ]
    caption = (
        "Left: singular values of the Jacobian of the penultimate features at the images, down to 1e-4 of the largest. "
        "Right: along which of its right singular vectors the end of the ascent lies; dotted, those of the network "
        "with random weights. Features of two networks have no common scale: left, compare how the curves fall."
    )
    keys = {"of the network": "-", "of random weights": ":"}
    return overlay(models, "figure-2", "Figure 2: spectrum and alignment", caption, panels, keys)


def _linearity(models: Sequence[ByLabel]) -> list[Plot]:
    panels = [
        Panel("linearity", _dashed(DEVIATIONS), "Deviation from linearity", DISTANCE, "deviation (L2)"),
        Panel("linearity", _dashed(LARGEST), "Largest singular value", DISTANCE, "largest singular value"),
    ]
    caption = (
        "Of the penultimate features, on the way from the image in random directions and to the end of the ascent."
    )
    title = "Figure 4: deviation from linearity, and the largest singular value"
    return overlay(models, "figure-4", title, caption, panels, WAYS)


def _patterns(models: Sequence[ByLabel]) -> list[Plot]:
    panels = [
        Panel("activation-patterns", _dashed(AT_DATA), "At the images", MAGNITUDE, "ReLUs unchanged", shares=True),
        Panel("activation-patterns", _dashed(AT_NOISE), "At uniform noise", MAGNITUDE, "ReLUs unchanged", shares=True),
    ]
    caption = (
        "Share of ReLUs on the same side of their kink with uniform noise added; adversarial: as far towards the end "
        "of the ascent. The axis does not begin at 0: patterns with nothing in common still share half of their bits."
    )
    return overlay(models, "figure-5", "Figure 5: activation patterns", caption, panels, WAYS)


def _dashed(quantities: dict[str, str]) -> dict[str, str]:
    """Way -> quantity becomes quantity -> dashes."""
    return {quantity: WAYS[way] for way, quantity in quantities.items()}


def _accuracy(models: Sequence[ByLabel]) -> list[Plot]:
    """Figure 3, a panel a norm: where the attack was tried."""
    rows = [
        {"model": model.name, "norm": norm, "budget": budget, "accuracy": share}
        for label, norm in ATTACKS.items()
        for model in models
        if isinstance(record := model.stage(label), AttackRecord)
        for budget, share in zip(
            (0.0, *record.budgets), (model.clean, *model.standing(norm, record.budgets, label)), strict=True
        )
    ]
    if not rows:
        return []
    data = pd.DataFrame(rows)
    norms = [norm for norm in ATTACKS.values() if (data["norm"] == norm).any()]

    def draw(figure: Figure) -> None:
        for axes, norm in zip(figure.subplots(1, len(norms), squeeze=False)[0], norms, strict=True):
            for i, model in enumerate(models):
                line = data[(data["model"] == model.name) & (data["norm"] == norm)]
                colour, marker = colour_and_marker(i)
                axes.plot(line["budget"], line["accuracy"], color=colour, lw=1.6, marker=marker, ms=3)
            axes.set(title=f"{Norm(norm).symbol} ascent", xlabel=names.axis(norm), ylabel="images still right")
            share_axis(axes)
        models_legend(figure, [model.name for model in models], {})

    caption = "Accuracy under projected gradient ascent of 10 steps, by its budget: at most this."
    height = 2.9 + legend_height([model.name for model in models])
    return [Plot("figure-3", "Figure 3: accuracy under ascent", caption, data, draw, height)]
