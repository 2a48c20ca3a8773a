"""An image of each class attacked towards each other class."""

from __future__ import annotations

from robusteval.analysis.metrics.measured import MeasuredStage, measured_stages
from robusteval.analysis.metrics.targeted_grid import pairs
from robusteval.analysis.results import Results
from robusteval.analysis.show import DECIMALS, budget, fixed, percent
from robusteval.reports.chapters.activation_maximization import left_out
from robusteval.reports.chapters.base import Chapter
from robusteval.reports.figures.drawing import Plot
from robusteval.reports.figures.mosaic import COLUMNS, Mosaic, Tile
from robusteval.reports.grid import Grid


def plots(results: Results) -> list[Plot]:
    found = measured_stages(results, "targeted-grid")
    return [_grid(stage) for stage in found if stage.arrays and len(pairs(stage))]


def grids(results: Results) -> list[Grid]:
    return [_numbers(stage) for stage in measured_stages(results, "targeted-grid") if len(pairs(stage))]


def _grid(stage: MeasuredStage) -> Plot:
    data, arrays, titles = pairs(stage), stage.arrays, stage.results.classes
    shown = range(min(len(titles), stage.settings["classes"]))
    by_pair = {(row["source"], row["target"]): row for row in data.to_dict("records")}
    wide = len(shown) > COLUMNS

    def tile(source: int, target: int) -> Tile | None:
        array, row = arrays.get(f"{source}-{target}"), by_pair.get((source, target))
        if array is None:
            return None
        if row is None:
            return Tile(array)
        return Tile(array, "" if wide else percent(row["target_probability"]), row["reached"] != 1)

    chosen = [titles[k] for k in shown]
    tiles = [[tile(s, t) for s in shown] for t in shown]
    mosaic = Mosaic(tiles, chosen, chosen, "target class", "original class")
    numbers = "" if wide else " Below each image the probability of its target."
    caption = (
        "The first correctly classified image of each class (on the diagonal) attacked towards each other class within "
        f"an {stage.norm.symbol} distance of {budget(stage.settings['budget'])}; framed where the model "
        f"does not see the target. An empty column has no such image.{numbers}{left_out(stage, len(shown))}"
    )
    title = f"{stage.title} (SmoothKernels, figure 10)"
    return Plot(f"images-{stage.label}", title, caption, data, mosaic.draw, mosaic.height)


def _numbers(stage: MeasuredStage) -> Grid:
    rows = []
    for way, key in (("from", "source"), ("to", "target")):
        for _, group in pairs(stage).groupby(key, sort=True):
            name = group["original" if key == "source" else "aim"].iloc[0]
            reached = f"{int(group['reached'].sum()):,} of {len(group):,}"
            probability, distance = group["target_probability"].mean(), group["distance"].mean()
            rows.append([f"{way} {name}", reached, fixed(probability, 3), fixed(distance, DECIMALS[stage.norm])])
    norm = stage.norm.symbol
    headings = ["Attacks", "reached", "mean target probability", f"mean {norm} distance"]
    note = (
        "A class that was reached is proven by its image; one that was not is a failure of this attack only. With "
        "one image a class the numbers describe these images, not their classes."
    )
    return Grid(stage.title, headings, rows, note=note)


CHAPTER = Chapter("targeted-grid", "Targeted attacks", plots, grids)
