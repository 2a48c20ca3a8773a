"""The per-image bound table as cells that DataTables shows, sorts and filters. All text is escaped here."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from itertools import groupby
from typing import Any

import numpy as np
from markupsafe import Markup, escape
from numpy.typing import NDArray

from robusteval.analysis import names, show
from robusteval.analysis.brackets import NormBounds, bounds_by_norm
from robusteval.analysis.closest import closest_of
from robusteval.analysis.curves import evenly
from robusteval.analysis.results import Results
from robusteval.core.methods import Guarantee
from robusteval.core.norms import Norm
from robusteval.reports.figures.thumbnails import Thumbnails, main_norm, thumbnails
from robusteval.results.exact import EXACT_COLUMNS, is_exact
from robusteval.results.records import CLEAN

Cell = tuple[str, str | float]
"""What is shown (safe HTML), and what is sorted and searched by."""
Bounds = dict[Any, Any]
"""A row of the table of bounds."""
BEST = {Guarantee.PROOF: "Proven", Guarantee.CONFIDENCE: "Smoothed model certified"}
"""What the largest lower bound of a kind is called."""
ROWS = 10_000
"""Of more images a page has only so many: every one has its pictures in it, and tables/bounds.csv has them all."""
FAR = 1e300
"""Sorts as infinity, which JSON does not have."""


@dataclass(frozen=True)
class ImageColumn:
    title: str
    group: str
    kind: str
    """image, text or number."""
    cell: Callable[[Bounds], Cell]


@dataclass(frozen=True)
class ImageTable:
    columns: list[ImageColumn]
    rows: list[list[Cell]]
    thumbs: list[tuple[str, str, str]]
    """Of each row, as data URIs: drawn only while the row is looked at."""
    facts: list[dict[str, Any]]
    """Of each row, what the filters above the table ask for."""
    classes: list[str]
    attacks: list[str]
    norm: str
    """The title of the norm in which the shown witness is the closest."""
    count: int
    """Of images that the run has."""

    @property
    def left_out(self) -> str:
        """A sentence where there are more images than rows."""
        if self.count == len(self.rows):
            return ""
        return (
            f"Of {self.count:,} images {len(self.rows):,} are here, evenly from the closest witness to the farthest, "
            "and of those with a contradiction as many as have room; tables/bounds.csv has all of them."
        )

    def groups(self) -> list[tuple[str, int]]:
        """The heading over neighbouring columns, and how many it spans."""
        return [(title, len([*columns])) for title, columns in groupby(self.columns, key=lambda c: c.group)]

    def beside(self, group: str) -> bool:
        """Whether columns are left out where there is no room: those of other norms than the main one."""
        return group not in ("", self.norm)

    def as_json(self) -> dict[str, Any]:
        """What the script in the page reads; `edge` opens a new group of columns."""
        before = [None, *(c.group for c in self.columns)]
        columns = [
            {"kind": c.kind, "edge": left not in (None, c.group), "title": c.title, "group": c.group}
            | {"beside": self.beside(c.group)}
            for left, c in zip(before, self.columns, strict=False)
        ]
        return {"columns": columns, "rows": self.rows, "facts": self.facts}


def image_table(results: Results) -> ImageTable:
    """One row an image: images, classes, and per norm the distance where it is exact, what is proven and the estimates
    of the model itself, the upper bound and the attack that found it, and what is certified with confidence of the
    smoothed model."""
    norm, classes = main_norm(results), results.classes
    places = shown_images(results, norm)
    thumbs, columns = thumbnails(results, norm, places), list(_columns(results, norm, places))
    found_by = _found_by(norm, results.titles)
    rows, shown = [], []
    facts: list[dict[str, Any]] = []
    for bounds in _bounds_of(results, places):
        own = thumbs.get(bounds["image_id"], Thumbnails())
        shown.append((own.image, own.witness, own.perturbation))
        rows.append([column.cell(bounds) for column in columns])
        facts.append(
            {
                "label": classes[bounds["label"]],
                "by": found_by(bounds),
                "wrong": not bounds["correct"],
                "standing": math.isinf(bounds[f"upper_{norm}"]),
                "exact": bool(bounds.get(EXACT_COLUMNS.get(norm))),
                "contradiction": bool(bounds["contradictions"]),
            }
        )
    present = sorted({f["label"] for f in facts}, key=classes.index)
    attacks = sorted({f["by"] for f in facts} - {""})
    return ImageTable(columns, rows, shown, facts, present, attacks, norm.symbol, len(results.images))


def shown_images(results: Results, norm: Norm) -> NDArray[np.int64]:
    """The places of the images that have a row: all, or ROWS of them. Up to half of these have a contradiction, the
    others are spread evenly along the order of their closest witnesses."""
    count = len(results.images)
    if count <= ROWS:
        return np.arange(count)
    contradicted = results.columns("bounds", ["contradictions"])["contradictions"].to_numpy() != ""
    first = evenly(np.flatnonzero(contradicted), ROWS // 2)
    order = np.argsort(results.distances(norm), kind="stable")
    return np.sort([*first, *evenly(order[~np.isin(order, first)], ROWS - len(first))])


def _bounds_of(results: Results, places: NDArray[np.int64]) -> Iterator[Bounds]:
    """The rows of the table of bounds at these places, with what is exact of them."""
    end = 0
    for piece in results.pieces("bounds"):
        start, end = end, end + len(piece)
        rows = piece.iloc[places[(places >= start) & (places < end)] - start]
        exact = {name: is_exact(rows[f"proof_{norm}"], rows[f"upper_{norm}"]) for norm, name in EXACT_COLUMNS.items()}
        yield from rows.assign(**exact).to_dict("records")


def _columns(results: Results, norm: Norm, places: NDArray[np.int64]) -> Iterator[ImageColumn]:
    titles, classes = results.titles, results.classes
    for title in ("Image", "Witness", "Added"):
        yield ImageColumn(title, "", "image", lambda bounds: ("", ""))
    yield ImageColumn("Name", "", "text", lambda bounds: _opens(bounds["image_id"]))
    text, predicted = cache(_text), cache(_predicted)
    yield ImageColumn("Class", "", "text", lambda bounds: text(classes[bounds["label"]]))
    yield ImageColumn(
        "Predicted", "", "text", lambda bounds: predicted(classes[bounds["predicted"]], bounds["correct"])
    )
    for own in bounds_by_norm(results, norm):
        yield from _columns_of(own, titles, _seen_as(results, own.norm, places))
    yield ImageColumn("Contradictions", "", "text", lambda bounds: _text(_against(bounds, titles)))


def _seen_as(results: Results, norm: Norm, places: NDArray[np.int64]) -> dict[str, str]:
    """By image id the class that the model gives its closest witness, of a misclassified image that of the image."""
    found = closest_of(results, norm, places).set_index("image_id")["predicted"].to_dict()
    images = results.images.iloc[places]
    images = images[~images["correct"]]
    found |= dict(zip(images["image_id"], images["predicted"], strict=True))
    return {str(image_id): results.classes[predicted] for image_id, predicted in found.items()}


def _columns_of(own: NormBounds, titles: dict[str, str], seen_as: dict[str, str]) -> Iterator[ImageColumn]:
    """The columns of one norm."""
    norm, group, found_by = own.norm, own.norm.symbol, _found_by(own.norm, titles)
    text = cache(_text)

    # Cells of all images, of which many are alike.
    @cache
    def at_least(value: float) -> Cell:
        return _number(value, show.lower(value, norm))

    @cache
    def at_most(value: float) -> Cell:
        return _number(value, show.upper(value, norm))

    @cache
    def titled(method: str) -> Cell:
        return _text(_title(method, norm, titles))

    def lower(key: str) -> Callable[[Bounds], Cell]:
        return lambda bounds: at_least(bounds[key])

    def method(key: str) -> Callable[[Bounds], Cell]:
        return lambda bounds: titled(bounds[key])

    if own.exact:
        yield ImageColumn("Exact", group, "number", lambda bounds: _exact(bounds, norm))
    for kind in own.guaranteed:
        yield ImageColumn(BEST[kind], group, "number", lower(f"{kind}_{norm}"))
        yield ImageColumn("by", group, "text", method(f"{kind}_{norm}_method"))
    yield ImageColumn("Witness at", group, "number", lambda bounds: at_most(bounds[f"upper_{norm}"]))
    yield ImageColumn("Seen as", group, "text", lambda bounds: text(seen_as.get(bounds["image_id"], "")))
    yield ImageColumn("Found by", group, "text", lambda bounds: text(found_by(bounds)))
    for stage in own.estimates:
        yield ImageColumn(names.bare(titles[stage], norm), group, "number", lower(f"lower_{stage}"))


def _found_by(norm: Norm, titles: dict[str, str]) -> Callable[[Bounds], str]:
    """What says of an image by what its closest witness was found."""
    key = f"upper_{norm}_method"
    title = cache(lambda method: names.CLEAN if method == CLEAN else _title(method, norm, titles))
    return lambda bounds: title(bounds[key])


def _title(method: str, norm: Norm, titles: dict[str, str]) -> str:
    """The title of a stage of the run, for a column of its norm; empty where there is none."""
    return names.bare(titles.get(method, method), norm)


def _against(bounds: Bounds, titles: dict[str, str]) -> str:
    return "; ".join(titles.get(method, method) for method in bounds["contradictions"].split("; ") if method)


def _text(text: str) -> Cell:
    return escape(text), text


def _opens(name: str) -> Cell:
    """A name that opens the details of its image."""
    return Markup(f'<button type="button" class="open">{escape(name)}</button>'), name


def _number(value: float, shown: str) -> Cell:
    return escape(shown), min(value, FAR)


def _exact(bounds: Bounds, norm: Norm) -> Cell:
    """The one number that stands for both ends of a bracket, the witness's; nothing where they do not meet."""
    far = bounds[f"upper_{norm}"] if bounds[EXACT_COLUMNS[norm]] else None
    if far is None:
        return "", FAR
    return _number(far, show.lower(far, norm) if math.isinf(far) else show.upper(far, norm))


def _predicted(name: str, correct: bool) -> Cell:
    return (escape(name) if correct else Markup(f'<b class="wrong">{escape(name)}</b>')), name
