"""How far the attacks had to go: minimum distances, areas under accuracy curves, and which attack came closest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from robusteval.analysis import names
from robusteval.analysis.curves import area
from robusteval.analysis.intervals import Mean, Median, mean, median
from robusteval.analysis.results import Results
from robusteval.core.norms import Norm
from robusteval.results.files import read_arrays
from robusteval.results.keeping import number_left_out
from robusteval.results.records import CLEAN

AREAS = {"linf": (8 / 255, 32 / 255)}
"""Accuracy is averaged over budgets from 0 to these (SGR table 1: CIFAR10, MNIST), and to the largest of the
protocol."""


@dataclass(frozen=True)
class Reach:
    """Of one attack, or of all together (`stage` is empty), in one norm; misclassified images count as 0."""

    stage: str
    title: str
    norm: str
    own: bool
    """Whether the attack searches in this norm; always for all together."""
    n: int
    failures: int
    """Images without a witness."""
    mean: Mean
    """Over the images with a witness only; the failures are counted beside it."""
    median: Median
    """Over all images: failures are infinite."""
    mean_square: float
    """Squared L2 distance over the number of pixel values, mean over the images with a witness (Moments' energy)."""
    relative: float
    """Mean of the distance over the size of the image, both in this norm, over the images with a witness; in L2
    DeepFool's rho_adv. NaN where there is no image."""
    areas: tuple[tuple[float, Mean | None], ...]
    """(limit, accuracy averaged over [0, limit]); None where the attack was tried at smaller budgets only."""


@dataclass(frozen=True)
class DistanceSummary:
    """What the attacks of a run reached: how far each had to go, which came closest, what else they measured; see
    the functions of these names."""

    reaches: Sequence[Reach]
    wins: pd.DataFrame
    stage_wins: Sequence[tuple[str, str, int]]
    measurements: Sequence[tuple[str, str, float, int, float, float]]


def summarise_distances(results: Results) -> DistanceSummary:
    return DistanceSummary(reaches(results), wins(results), stage_wins(results), attack_measurements(results))


def reaches(results: Results) -> list[Reach]:
    """Per norm that an attack searches in or that the protocol has budgets in: each attack, then all together."""
    entries = results.attacks_ran
    titles = results.titles
    sizes = image_sizes(results, reached_norms(results))
    values = int(np.prod(results.manifest.model.input_shape))
    found = []
    for norm in reached_norms(results):
        size, reach = sizes[norm], limits(results, norm)
        for e in (*entries, None):
            distance, l2 = (results.distances(n, e.name if e else None) for n in (norm, "l2"))
            seen = np.isfinite(distance)
            found.append(
                Reach(
                    stage=e.name if e else "",
                    title=titles[e.name] if e else names.ALL,
                    norm=norm,
                    own=e is None or e.norm == norm,
                    n=len(distance),
                    failures=int((~seen).sum()),
                    mean=mean(distance[seen], least=0.0),
                    median=median(distance),
                    mean_square=_mean(np.square(l2[seen]) / values),
                    relative=_mean(_over(distance[seen], size[seen])),
                    areas=tuple((x, area(distance, x) if e is None or e.tried(norm, x) else None) for x in reach),
                )
            )
    return found


def reached_norms(results: Results) -> list[str]:
    """The norms that an attack of the run searches in or that its protocol has budgets in."""
    wanted = {*results.attacked, *(results.manifest.protocol.budgets if results.attacked else ())}
    return [n for n in results.norms if n in wanted]


def limits(results: Results, norm: str) -> list[float]:
    """How far accuracy is averaged in a norm."""
    budgets = results.manifest.protocol.budgets.get(Norm(norm), ())
    return sorted({*AREAS.get(norm, ()), *([max(budgets)] if budgets else [])})


def image_sizes(results: Results, norms: Sequence[str]) -> dict[str, NDArray[np.float64]]:
    """The size of each image, by norm and in the order of the images; NaN where the run has not kept it,
    and everywhere where it keeps some images alone, since a mean over these would be another number."""
    sizes = {norm: np.full(len(results.images), np.nan) for norm in norms}
    for file in results.run.array_files(CLEAN) if norms and not number_left_out(results.manifest) else ():
        kept = {i: array.astype(np.float64).ravel() for i, array in read_arrays(file).items()}
        at = results.places_if_known(pd.Series([*kept], dtype="str"))
        for norm, found in sizes.items():
            measured = np.array([np.linalg.norm(values, Norm(norm).p) for values in kept.values()])
            found[at[at >= 0]] = measured[at >= 0]
    return sizes


def wins(results: Results) -> pd.DataFrame:
    """How many images each attack is the closest on, the first of equals (GradReg's best distance per image): titles
    as index, a column for each of `reached_norms`."""
    titles, columns = results.titles, {n: f"upper_{n}_method" for n in reached_norms(results)}
    counts = {n: results.columns("bounds", [column])[column].value_counts() for n, column in columns.items()}
    rows = {titles[e.name]: {n: int(c.get(e.name, 0)) for n, c in counts.items()} for e in results.attacks_ran}
    rows[names.CLEAN] = {n: int(c.get(CLEAN, 0)) for n, c in counts.items()}
    rows["none found"] = {n: int(c.get("", 0)) for n, c in counts.items()}
    return pd.DataFrame.from_dict(rows, orient="index")


def stage_wins(results: Results) -> list[tuple[str, str, int]]:
    """Of the ensembles that say which of their stages fooled an image: (attack, stage, images).

    An image that several budgets break counts with the smallest that names a stage.
    """
    found = []
    for e in (e for e in results.attacks_ran if e.ensemble):
        rows = results.rows("measurements", e.name, ["image_id", "at", "value"], ["stage"])
        first = rows[rows["value"] >= 1].sort_values("at", kind="stable").drop_duplicates("image_id")["value"]
        found += [
            (results.titles[e.name], stage.title, int((first == stage.value).sum()))
            for stage in (e.ensemble if len(first) else ())
        ]
    return found


def attack_measurements(results: Results) -> list[tuple[str, str, float, int, float, float]]:
    """What attacks measured beside distances, such as ADef's deformation: (attack, quantity, at, images, mean, median)
    of the finite values."""
    return [
        (results.titles[e.name], quantity, float(at), len(v), float(v.mean()), float(v.median()))
        for e in results.attacks_ran
        for quantity in sorted({*results.measured(e.name)["quantity"]} - {"stage"})
        for rows in [results.rows("measurements", e.name, ["at", "value"], [quantity])]
        for at, v in rows[np.isfinite(rows["value"])].groupby("at")["value"]
    ]


def frame(found: Sequence[Reach]) -> pd.DataFrame:
    """Every number of `reaches`, one row an attack, norm and limit: tables/distances.csv."""
    return pd.DataFrame(
        [
            {
                "attack": r.title,
                "norm": r.norm,
                "images": r.n,
                "not_found": r.failures,
                "mean_of_found": r.mean.value,
                "mean_low": r.mean.low,
                "mean_high": r.mean.high,
                "median": r.median.value,
                "median_low": r.median.low,
                "median_high": r.median.high,
                "mean_square": r.mean_square,
                "relative": r.relative,
                "averaged_over": limit,
                "averaged_accuracy": share.value if share else np.nan,
                "averaged_low": share.low if share else np.nan,
                "averaged_high": share.high if share else np.nan,
            }
            for r in found
            for limit, share in (r.areas or ((np.nan, None),))
        ]
    )


def _over(far: NDArray[np.float64], sizes: NDArray[np.float64]) -> NDArray[np.float64]:
    """Relative distances; 0 for a misclassified image, whatever its size."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where((far == 0) & ~np.isnan(sizes), 0.0, far / sizes)


def _mean(values: NDArray[np.float64]) -> float:
    values = values[~np.isnan(values)]
    return float(values.mean()) if len(values) else float("nan")
