"""The figures of distances: accuracy curves, brackets, certified accuracy."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from robusteval.analysis import names
from robusteval.analysis.brackets import exact_distances
from robusteval.analysis.coverage import certified_share
from robusteval.analysis.curves import STEPS, curve, evenly
from robusteval.analysis.distances import reached_norms
from robusteval.analysis.results import Results
from robusteval.core.methods import Guarantee
from robusteval.core.norms import Norm
from robusteval.reports.figures.drawing import (
    COLOURS,
    EXACT_COLOUR,
    FAINT,
    INK,
    MARKERS,
    Plot,
    legend,
    legend_height,
    share_axis,
    style,
)
from robusteval.results.exact import WITHIN
from robusteval.results.records import AttackRecord, CertificateRecord

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLUMNS = 800
"""Of more images only so many are drawn in a bracket plot: a screen has no more columns to tell them apart."""
BANDS = 5
"""Of more attacks in one figure only the worst case is drawn with its band; the others' are in its data."""


def accuracy_curves(results: Results) -> list[Plot]:
    """Accuracy against distance, in each norm in which an attack broke an image."""
    return [_curve(results, norm) for norm in reached_norms(results)]


def _curve(results: Results, norm: str) -> Plot:
    """The share of images that each attack leaves standing at a distance, and the worst case.

    The attacks that search in this norm, or all of them where none does.
    """
    titles, entries = results.titles, results.attacks_ran
    shown = [e for e in entries if e.norm == norm] or entries
    upper = results.distances(norm)
    worst = curve(upper, limit=STEPS).assign(reach=np.inf)
    lines = {names.bare(titles[e.name], norm): _line(e, norm, results) for e in shown}
    budgets = [*results.manifest.protocol.budgets.get(Norm(norm), ())]
    budgets += [b for e in shown if e.norm == norm for b in e.budgets]
    finite = upper[np.isfinite(upper) & (upper > 0)]
    ends = [*(1.25 * b for b in budgets), *([1.1 * float(np.quantile(finite, 0.97))] if len(finite) else [])]
    end = max(ends, default=1.0)

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        for i, (label, line) in enumerate(lines.items()):
            colour, dash = style(i)
            line = _extended(line, end)
            axes.step(line["budget"], line["share"], where="post", color=colour, ls=dash, lw=1.4, label=label)
            if len(lines) <= BANDS:
                axes.fill_between(line["budget"], line["low"], line["high"], step="post", color=colour, alpha=0.1, lw=0)
        band = _extended(worst, end)
        axes.fill_between(band["budget"], band["low"], band["high"], step="post", color=FAINT, alpha=0.22, lw=0)
        label = f"{names.ALL}, with 95 % band"
        axes.step(band["budget"], band["share"], where="post", color=INK, lw=2.2, label=label)
        axes.set(xlim=(0, end), xlabel=names.axis(norm), ylabel="images still right")
        share_axis(axes)
        legend(figure, axes)

    data = pd.concat(
        [line.assign(attack=name) for name, line in (*lines.items(), (names.ALL, worst))], ignore_index=True
    )
    data = data.rename(columns={"budget": "distance"})
    caption = (
        "Share of images that no perturbation found so far breaks, against its size. The thick line takes the "
        "closest witness of all attacks, whatever norm they search in. The line of an attack with fixed budgets "
        "ends at the largest one tried. The 95 % bands of all lines are in the data."
    )
    if len(upper) > STEPS:
        caption += f" A line has at most {STEPS:,} of its steps, evenly along it."
    columns = ["attack", "distance", "share", "low", "high"]
    title = f"Accuracy against distance, {Norm(norm).symbol}"
    height = 2.9 + legend_height([*lines, names.ALL])
    return Plot(f"curves-{norm}", title, caption, data[columns], draw, height)


def _line(entry: AttackRecord, norm: str, results: Results) -> pd.DataFrame:
    """The curve of one attack as far as it was tried; `reach` says how far that is."""
    reach = np.inf
    if entry.fixed_budget and entry.norm == norm:
        reach = results.rows("witnesses", entry.name, ["budget"])["budget"].max()
    return curve(results.distances(norm, entry.name), limit=STEPS).assign(reach=reach)


def _extended(line: pd.DataFrame, end: float) -> pd.DataFrame:
    """The last step drawn on to the end of the axis, or of what was tried."""
    last = line.iloc[[-1]]
    stop = max(float(last["budget"].iloc[0]), min(float(last["reach"].iloc[0]), end))
    return pd.concat([line, last.assign(budget=stop)])


def brackets(results: Results) -> list[Plot]:
    """Per norm: the closest witness of each image and its lower bounds, images ordered by the former; one dot where the
    distance is exact."""
    titles, found = results.titles, []
    for norm in results.norms:
        own = [s for s in results.certificates_ran if s.norm == norm and s.subject == "f"]
        lowers = {f"lower_{s.name}": titles[s.name] for s in own}
        if lowers or any(s.norm == norm for s in results.attacks_ran):
            order = results.by_id[np.argsort(results.distances(norm)[results.by_id], kind="stable")]
            ranks = evenly(np.arange(1, len(order) + 1), STEPS)
            data = results.columns("bounds", ["image_id", f"upper_{norm}", *lowers]).iloc[order[ranks - 1]]
            exact = exact_distances(results, norm)[order[ranks - 1]]
            data = data.reset_index(drop=True).rename(columns=lowers).assign(exact=exact)
            proofs = {titles[s.name] for s in own if s.guarantee is Guarantee.PROOF}
            found.append(_bracket(norm, data, list(lowers.values()), proofs, ranks, len(order)))
    return found


def _bracket(
    norm: str,
    data: pd.DataFrame,
    lowers: Sequence[str],
    proofs: Collection[str],
    ranks: NDArray[np.int64],
    count: int,
) -> Plot:
    """Of `count` images those of `data`, with their ranks in the order. A lower bound among the `proofs` has no mark
    where the distance is exact."""
    rows = evenly(np.arange(len(data)), COLUMNS)

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        drawn = data.iloc[rows]
        upper, x, exact = drawn[f"upper_{norm}"].to_numpy(), ranks[rows], drawn["exact"].to_numpy()
        values = np.concatenate([upper, *(drawn[name].to_numpy() for name in lowers)])
        positive = values[np.isfinite(values) & (values > 0)]
        top = float(positive.max()) * (1.0 if np.isfinite(upper).all() else 1.3) if len(positive) else 1.0
        if len(positive) and positive.max() > 30 * np.quantile(positive, 0.1):
            linear = 10 ** np.floor(np.log10(np.quantile(positive, 0.1)))
            axes.set_yscale("symlog", linthresh=linear, linscale=0.5)
            axes.yaxis.set_major_formatter("{x:g}")
        size = float(np.clip(320 / len(x), 1.0, 4))
        best = np.max([np.zeros(len(x)), *(drawn[name].to_numpy() for name in lowers)], axis=0)
        low, high = np.minimum(best, top)[~exact], np.minimum(upper, top)[~exact]
        axes.vlines(x[~exact], low, high, color=FAINT, alpha=0.35, lw=size / 4)
        for i, name in enumerate(lowers):
            marks: Any = {"marker": MARKERS[(i + 1) % len(MARKERS)], "color": COLOURS[i % len(COLOURS)]}
            label = names.bare(name, norm)
            marked = ~exact if name in proofs else np.ones(len(x), dtype=bool)
            axes.plot(x[marked], np.minimum(drawn[name], top)[marked], ls="", ms=size, mew=0, label=label, **marks)
        seen = np.isfinite(upper)
        for at, mark, colour, label in (
            (seen & ~exact, "o", INK, "closest witness (upper bound)"),
            (seen & exact, "o", EXACT_COLOUR, f"exact, to {WITHIN}: witness and proof meet"),
            (~seen, "^", FAINT, "no witness found"),
        ):
            if at.any():
                axes.plot(x[at], np.minimum(upper, top)[at], mark, ms=size, mew=0, color=colour, label=label)
        axes.set(xlabel="images, ordered by their closest witness", ylabel=f"{Norm(norm).symbol} distance")
        axes.set_ylim(-0.03 * top if axes.get_yscale() == "linear" else 0, 1.1 * top)
        axes.margins(x=0.02)
        legend(figure, axes)

    caption = (
        "The smallest perturbation that breaks an image lies between the marks of its column, as far as the lower "
        "bound can be trusted: an estimate above a witness is a contradiction, and shown. Zero: misclassified, "
        "or nothing covered."
    )
    if data["exact"].any():
        caption += f" One dot without a bar: proof and witness meet within {WITHIN}, the distance is exact."
    if len(rows) < count:
        caption += f" Drawn are {len(rows):,} of {count:,} images, evenly along this order."
    if len(data) < count:
        caption += f" The data have {len(data):,}, tables/bounds.csv has all."
    return Plot(f"bracket-{norm}", f"Bracket of each image, {Norm(norm).symbol}", caption, data, draw)


def coverage(results: Results) -> list[Plot]:
    """Per norm: the share of images that each certificate covers, against the radius."""
    titles, found = results.titles, []
    for norm in results.norms:
        lines = {
            titles[s.name]: certified_share(results.usable_radii(s.name), len(results.images), limit=STEPS)
            for s in results.manifest.of(CertificateRecord)
            if s.norm == norm and s.done
        }
        if lines:
            found.append(_coverage(norm, lines))
    return found


def _coverage(norm: str, lines: dict[str, pd.DataFrame]) -> Plot:
    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        end = 1.1 * max(float(line["radius"][np.isfinite(line["radius"])].max()) for line in lines.values()) or 1.0
        for i, (name, line) in enumerate(lines.items()):
            colour, dash = style(i)
            # Beyond the largest finite radius only unbounded ones are left, if any.
            rest = pd.DataFrame({"radius": [np.inf], "share": 0.0, "low": 0.0, "high": 0.0})
            line = pd.concat([line, rest]).drop_duplicates("radius").replace({"radius": {np.inf: end}})
            axes.step(
                line["radius"], line["share"], where="pre", color=colour, ls=dash, lw=1.6, label=names.bare(name, norm)
            )
            if len(lines) <= BANDS:
                axes.fill_between(line["radius"], line["low"], line["high"], step="pre", color=colour, alpha=0.1, lw=0)
        axes.set(xlim=(0, end), xlabel=f"{Norm(norm).symbol} radius (pixels in [0, 1])", ylabel="images covered")
        share_axis(axes)
        legend(figure, axes)

    data = pd.concat([line.assign(certificate=name) for name, line in lines.items()], ignore_index=True)
    caption = (
        "Share of images classified correctly with at least the radius on the axis, for each bound, with its 95 % "
        "interval over images (in the data where it is not drawn)."
    )
    title = f"Coverage of the lower bounds, {Norm(norm).symbol}"
    return Plot(
        f"coverage-{norm}", title, caption, data[["certificate", "radius", "share", "low", "high"]], draw, height=2.8
    )
