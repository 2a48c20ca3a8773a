"""The columns of a leaderboard from one run: each number with its interval, and image by image."""

from __future__ import annotations

from array import array
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from robusteval.analysis import names, show
from robusteval.analysis.brackets import exact_distances
from robusteval.analysis.curves import within
from robusteval.analysis.intervals import mean, mean_share, median, proportion
from robusteval.analysis.leaderboard.board import EXACT, ROBUST, WORST, BoardColumn, Score
from robusteval.analysis.leaderboard.certified import certified_shares
from robusteval.analysis.leaderboard.shares import share_score
from robusteval.analysis.results import Results
from robusteval.analysis.show import Round
from robusteval.analysis.standing import asked_radii, proved_norms
from robusteval.core.norms import Norm
from robusteval.results.exact import WITHIN
from robusteval.results.records import CLEAN

Values = NDArray[np.float64]


def scores(results: Results) -> Iterator[tuple[BoardColumn, Score]]:
    """Accuracies, distances and how many of them are exact, radii, noise area and cost of a run, in the order of the
    board's columns. Values of images are in the order of their ids."""
    yield (
        BoardColumn(key=CLEAN, title="Clean accuracy", kind="share"),
        share_score(results.correct[results.by_id], Round.NEAREST),
    )
    standing = []
    protocol = results.manifest.protocol
    asked = asked_radii(results.images[["image_id"]], protocol.budgets, protocol.own_budgets)
    for norm, budget, radii in asked if results.attacked else ():
        left = ~within(results.distances(norm), radii)[results.by_id]
        standing.append(left)
        title = f"Robust accuracy, {names.at(norm, budget)}"
        note = "at most: the share of images that no attack broke within the budget"
        yield (
            BoardColumn(key=_key(norm, budget), title=title, kind="share", norm=norm, note=note),
            share_score(left, Round.UP),
        )
    if len(standing) > 1:
        note = "at most: the share of images that no attack broke at any of the protocol's budgets"
        yield (
            BoardColumn(key=WORST, title="Worst case of all budgets", kind="share", note=note),
            share_score(np.all(standing, axis=0), Round.UP),
        )
    yield from certified_shares(results)
    for searched in (n for n in results.norms if n in results.attacked):
        yield from _distances(results.distances(searched)[results.by_id], searched)
    both = results.attacked & proved_norms(results.certificates_ran) if results.correct.any() else ()
    yield from (_exact(results, norm) for norm in results.norms if norm in both)
    yield from _radii(results)
    yield from _noise(results)
    yield _cost(results)


def standard_autoattack(results: Results) -> dict[str, float]:
    """The share of images that the standard AutoAttack did not break, by the key of the column of each budget that it
    was given; nothing where it did not run."""
    found: dict[str, float] = {}
    for record in results.attacks_ran:
        if record.ranks_on_robustbench and record.source is None:
            distances = results.distances(record.norm, record.name)
            found |= {_key(record.norm, b): proportion(~within(distances, b)).value for b in record.budgets}
    return found


def _key(norm: Norm, budget: float | None) -> str:
    return f"{ROBUST}{norm}_{names.OWN if budget is None else show.budget(budget)}"


def _distances(far: Values, norm: Norm) -> Iterator[tuple[BoardColumn, Score]]:
    title, seen = norm.symbol, np.isfinite(far)
    middle, average = median(far), mean(far[seen], least=0.0)
    note = "at most: the closest witness of all attacks; 0 for a misclassified image, infinite where none was found"
    yield (
        BoardColumn(key=f"median_{norm}", title=f"Median distance, {title}", kind="upper", norm=norm, note=note),
        Score(
            value=middle.value,
            low=middle.low,
            high=middle.high,
            shown=show.upper(middle.value, norm),
            interval=show.distances(middle.low, middle.high, norm),
            images=far,
        ),
    )
    note = "over the images with a witness; those without are counted beside it, and the column is not ranked"
    failures = int((~seen).sum())
    shown = show.upper(average.value, norm) if average.n else show.NONE_FOUND
    yield (
        BoardColumn(key=f"mean_{norm}", title=f"Mean distance, {title}", kind="upper", norm=norm, note=note),
        Score(
            value=average.value if average.n else np.inf,
            low=average.low if average.n else 0.0,
            high=average.high if average.n else np.inf,
            shown=f"{shown} ({failures:,} not found)" if failures and average.n else shown,
            interval=show.distances(average.low, average.high, norm) if average.n > 1 else "-",
        ),
    )


def _exact(results: Results, norm: Norm) -> tuple[BoardColumn, Score]:
    note = (
        "at least: of the images classified correctly, those whose closest witness lies at most "
        f"{WITHIN} farther than the largest proven radius; it says how much is known of a model, and the column is not "
        "ranked"
    )
    column = BoardColumn(
        key=f"{EXACT}{norm}", title=f"Exact distances, {norm.symbol}", kind="lower", norm=norm, note=note
    )
    found = share_score(exact_distances(results, norm)[results.correct], Round.DOWN)
    return column, found.model_copy(update={"images": array("d")})


def _radii(results: Results) -> Iterator[tuple[BoardColumn, Score]]:
    for entry in results.certificates_ran:
        radii, norm = results.radii(entry.name).to_numpy(np.float64)[results.by_id], entry.norm
        # A constant network is certified without end; its mean is no number.
        finite = radii[np.isfinite(radii)]
        average = mean(finite, least=0.0)
        note = f"mean radius of {names.subject(entry.subject)}, {entry.guarantee}; 0 where nothing is covered"
        yield (
            BoardColumn(
                key=f"radius_{entry.name}",
                title=f"Mean radius, {results.titles[entry.name]}",
                kind="radius",
                norm=norm,
                note=note,
            ),
            Score(
                value=average.value if len(finite) == len(radii) else np.inf,
                low=average.low,
                high=average.high,
                shown=show.lower(average.value if len(finite) == len(radii) else np.inf, norm),
                interval=f"{show.lower(average.low, norm)} to {show.upper(average.high, norm)}"
                if average.n > 1
                else "-",
                images=radii,
            ),
        )


def _noise(results: Results) -> Iterator[tuple[BoardColumn, Score]]:
    for entry in results.metrics_ran:
        rows = results.rows("measurements", entry.name, ["image_id", "value"], ["noise_area"]).sort_values("image_id")
        if rows.empty:
            continue
        values = rows["value"].to_numpy(dtype=np.float64)
        area = mean_share(values)
        note = "predictions kept under noise, averaged over its standard deviations (Moments, section 4)"
        yield (
            BoardColumn(
                key=f"noise_{entry.name}", title=f"Noise area, {results.titles[entry.name]}", kind="lower", note=note
            ),
            Score(
                value=area.value,
                low=area.low,
                high=area.high,
                shown=show.percent(area.value),
                interval=show.percents(area.low, area.high),
                images=values,
            ),
        )


def _cost(results: Results) -> tuple[BoardColumn, Score]:
    n = len(results.images)
    value = sum(s.cost.forwards + s.cost.backwards for s in results.manifest.stages) / n
    note = "evaluations of the model an image, forward and backward, of the whole audit; counted, not estimated"
    column = BoardColumn(key="cost", title="Cost", kind="cost", higher_is_better=False, note=note)
    return column, Score(value=value, low=value, high=value, shown=show.count(value), interval="-")
