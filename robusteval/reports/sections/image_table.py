"""The per-image bound table as cells that DataTables shows, sorts and filters. All text is escaped here."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from markupsafe import Markup, escape

from robusteval.analysis import names, show
from robusteval.analysis.results import Results
from robusteval.core.norms import Norm
from robusteval.reports.figures.thumbnails import Thumbnails, main_norm, thumbnails
from robusteval.results.bracket import HOLDS_IN
from robusteval.results.manifest import AttackRecord, CertificateRecord

Cell = tuple[str, str | float]
"""What is shown (safe HTML), and what is sorted and searched by."""
BEST = {"proof": "Proven", "confidence": "Smoothed model certified"}
"""The kinds of lower bounds of which the table shows the largest only, and what it is called."""
IMAGE_COLUMNS = ("Image", "Witness", "Added")
FAR = 1e300
"""Sorts as infinity, which JSON does not have."""


@dataclass(frozen=True)
class Column:
    title: str
    group: str
    kind: str
    """image, text or number."""


@dataclass(frozen=True)
class ImageTable:
    columns: list[Column]
    rows: list[list[Cell]]
    thumbs: list[tuple[str, str, str]]
    """Of each row, as data URIs: drawn only while the row is looked at."""
    facts: list[dict[str, Any]]
    """Of each row, what the filters above the table ask for."""
    classes: list[str]
    attacks: list[str]
    norm: str
    """The title of the norm in which the shown witness is the closest."""

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
    """One row an image: images, classes, and per norm what is proven and the estimates of the model itself, the upper
    bound and the attack that found it, and what is certified with confidence of the smoothed model."""
    bounds, titles, classes = results.bounds, results.titles, results.classes
    norm = main_norm(results.manifest.protocol.budgets, results.witnesses)
    thumbs = thumbnails(results, norm)
    lowers, best = _estimates(results), {n: [kind for kind in BEST if _holds(results, kind, n)] for n in Norm}
    order = [
        norm,
        *(n for n in map(Norm, results.norms) if n != norm and (lowers[n] or best[n] or _attacked(results, n))),
    ]
    columns = [Column(title, "", "image") for title in IMAGE_COLUMNS]
    columns += [Column("Name", "", "text"), Column("Class", "", "text"), Column("Predicted", "", "text")]
    for n in order:
        for kind in best[n]:
            columns += [Column(BEST[kind], Norm(n).symbol, "number"), Column("by", Norm(n).symbol, "text")]
        columns += [Column("Witness at", Norm(n).symbol, "number"), Column("Found by", Norm(n).symbol, "text")]
        columns += [Column(names.bare(titles[s], n), Norm(n).symbol, "number") for s in lowers[n]]
    columns.append(Column("Contradictions", "", "text"))

    rows, shown, facts = [], [], []
    for bound in bounds.to_dict("records"):
        own = thumbs.get(bound["image_id"], Thumbnails())
        shown.append((own.image, own.witness, own.perturbation))
        row: list[Cell] = [("", "")] * len(IMAGE_COLUMNS)
        row += [_opens(bound["image_id"]), _text(classes[bound["label"]]), _prediction(bound, classes)]
        by = {}
        for n in order:
            for kind in best[n]:
                radius, source = bound[f"{kind}_{n}"], bound[f"{kind}_{n}_method"]
                row += [_number(radius, show.lower(radius, n)), _text(names.bare(titles.get(source, source), n))]
            method = bound[f"upper_{n}_method"]
            by[n] = names.CLEAN if method == "clean" else names.bare(titles.get(method, method), n)
            row += [_number(bound[f"upper_{n}"], show.upper(bound[f"upper_{n}"], n)), _text(by[n])]
            row += [_number(bound[f"lower_{s}"], show.lower(bound[f"lower_{s}"], n)) for s in lowers[n]]
        against = [titles.get(m, m) for m in bound["contradictions"].split("; ") if m]
        row.append(_text("; ".join(against)))
        rows.append(row)
        facts.append(
            {
                "label": classes[bound["label"]],
                "by": by[norm],
                "wrong": not bound["correct"],
                "standing": math.isinf(bound[f"upper_{norm}"]),
                "contradiction": bool(against),
            }
        )
    present = sorted({f["label"] for f in facts}, key=classes.index)
    return ImageTable(columns, rows, shown, facts, present, sorted({f["by"] for f in facts} - {""}), Norm(norm).symbol)


def _estimates(results: Results) -> dict[str, list[str]]:
    """By norm, the estimates that speak of the model itself."""
    done = [s for s in _certificates(results, "estimate") if s.subject == "f"]
    return {n: [s.name for s in done if s.norm == n] for n in Norm}


def _holds(results: Results, kind: str, norm: str) -> bool:
    """Whether the run has lower bounds of a kind that hold in a norm."""
    return any(s.norm in HOLDS_IN.get(norm, ()) for s in _certificates(results, kind))


def _certificates(results: Results, kind: str) -> list[CertificateRecord]:
    return [s for s in results.certificates_ran if s.guarantee == kind]


def _attacked(results: Results, norm: str) -> bool:
    return any(s.norm == norm and s.done for s in results.manifest.of(AttackRecord))


def _text(text: str) -> Cell:
    return escape(text), text


def _opens(name: str) -> Cell:
    """A name that opens the details of its image."""
    return Markup('<button type="button" class="open">{}</button>').format(name), name


def _number(value: float, shown: str) -> Cell:
    return escape(shown), min(value, FAR)


def _prediction(bound: dict[Any, Any], classes: list[str]) -> Cell:
    name = classes[bound["predicted"]]
    return (escape(name) if bound["correct"] else Markup('<b class="wrong">{}</b>').format(name)), name
