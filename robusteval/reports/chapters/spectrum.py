"""Mean singular values of the Jacobian, against their rank."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from robusteval.audit.run import Run
from robusteval.reports.chapters.base import Chapter, Stage, means, stages
from robusteval.reports.drawing import COLOURS, Plot

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SPECTRA = {"singular_value": "at the images", "singular_value_adversarial": "at their witnesses"}


def plots(run: Run) -> list[Plot]:
    return [_spectrum(stage) for stage in stages(run, "jacobian-spectrum") if len(stage.measurements)]


def _spectrum(stage: Stage) -> Plot:
    data = means(stage.measurements, SPECTRA).rename(columns={"at": "rank"})

    def draw(figure: Figure) -> None:
        from matplotlib.ticker import MaxNLocator

        axes = figure.subplots()
        for i, (quantity, label) in enumerate(SPECTRA.items()):
            curve = data[data["quantity"] == quantity]
            if len(curve):
                bars: Any = {"yerr": curve["standard_error"], "capsize": 2, "elinewidth": 1}
                line: Any = {"fmt": "os"[i] + "-", "ms": 3.5, "lw": 1.4, "color": COLOURS[i], "label": label}
                axes.errorbar(curve["rank"], curve["mean"], **line, **bars)
        axes.set(xlabel="rank", ylabel="singular value", ylim=(0, None))
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        figure.legend(loc="outside lower center", ncols=2)

    caption = (
        "How much the penultimate features stretch small changes of the pixels: mean singular value of their "
        "Jacobian, with its standard error over the images."
    )
    return Plot(f"spectrum-{stage.label}", f"{stage.title} (OpNorm, figure 2 left)", caption, data, draw)


CHAPTER = Chapter("jacobian-spectrum", "Spectrum", plots)
