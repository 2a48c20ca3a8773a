"""Runs -> a board: what may be compared, and what stands where."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from importlib.metadata import version
from typing import Any

from robusteval.analysis import masking
from robusteval.analysis.leaderboard.board import Board, Column, Entry, Score
from robusteval.analysis.leaderboard.ranks import places
from robusteval.analysis.leaderboard.scores import scores
from robusteval.analysis.results import Results
from robusteval.analysis.transfer import transfer_matrix
from robusteval.core.errors import UserError

_SAME: dict[str, Callable[[Board], Any]] = {
    "images": lambda b: b.data_fingerprint,
    "protocol": lambda b: {k: v for k, v in b.protocol.items() if k != "description"},
}
"""What boards must share to be one."""


def board_of(results: Results) -> Board:
    """A board of one model. Raises UserError if the run is not finished."""
    manifest = results.manifest
    if manifest.status != "complete":
        raise UserError(f"expected finished runs, got {results.path}, which its audit command continues")
    found = list(scores(results))
    serious = tuple(f.title for f in masking.flags(results) if f.severity == "serious")
    entry = Entry(
        model=manifest.model.name,
        fingerprint=manifest.model.fingerprint,
        architecture=manifest.model.arch,
        run=str(results.path),
        scores={column.key: score for column, score in found},
        flags=serious,
        transfer=_transfer(results),
    )
    return Board(
        robusteval=version("robusteval"),
        data=manifest.data.source,
        data_fingerprint=manifest.data.fingerprint,
        images=tuple(sorted(results.images["image_id"])),
        protocol=manifest.protocol.model_dump(mode="json", exclude_none=True),
        columns=tuple(column for column, _ in found),
        entries=(entry,),
    )


def joined(boards: Sequence[Board]) -> Board:
    """One board of all models, with their places. A model that is there twice is taken from the last.

    Raises UserError that names what differs where boards cannot be compared: other images, another protocol.
    """
    first = boards[0]
    for other in boards[1:]:
        _check(first, other)
    entries = {entry.fingerprint: entry for board in boards for entry in board.entries}
    columns: dict[str, Column] = {}
    for board in boards:
        columns |= {c.key: columns.get(c.key, c) for c in board.columns}
    ordered = _best_first(_named(list(entries.values())))
    placed = _placed(ordered, list(columns.values()))
    return first.model_copy(update={"columns": tuple(columns.values()), "entries": tuple(placed)})


def _check(first: Board, other: Board) -> None:
    for what, of in _SAME.items():
        if of(first) != of(other):
            detail = f" ({_difference(of(first), of(other))})" if what == "protocol" else ""
            raise UserError(
                f"expected runs of the same {what}, got {first.entries[0].run} and {other.entries[0].run} with "
                f"different ones{detail}; audit both with the same --data, --limit and --protocol"
            )


def _difference(a: dict[str, Any], b: dict[str, Any]) -> str:
    """The first part of two protocols that is not the same: its name, its budgets, a method."""
    key = next(k for k in (*a, *b) if a.get(k) != b.get(k))
    x, y = (p.get(key) for p in (a, b))
    if isinstance(x, list) and isinstance(y, list):
        odd = next((e for e in (*x, *y) if (e in x) != (e in y)), None)
        return f"{key}: {odd.get('name', odd) if isinstance(odd, dict) else odd}"
    return f"{key}: {json.dumps(x)} and {json.dumps(y)}"


def _named(entries: list[Entry]) -> list[Entry]:
    """Two models of one name get the beginning of their fingerprints."""
    names = [e.model for e in entries]
    return [
        e.model_copy(update={"model": f"{e.model} {e.fingerprint[:8]}"}) if names.count(e.model) > 1 else e
        for e in entries
    ]


def _placed(entries: list[Entry], columns: list[Column]) -> list[Entry]:
    found: list[dict[str, Score]] = [dict(e.scores) for e in entries]
    for column in columns:
        here = [k for k, e in enumerate(entries) if column.key in e.scores and e.scores[column.key].images]
        values = [entries[k].scores[column.key].images for k in here]
        for k, place in zip(here, places(values, column.higher_is_better), strict=True):
            update = {"rank": place.first, "rank_last": place.last}
            ties = tuple(entries[here[j]].model for j in place.ties)
            found[k][column.key] = found[k][column.key].model_copy(update=update | {"ties": ties})
    return [e.model_copy(update={"scores": s}) for e, s in zip(entries, found, strict=True)]


def _best_first(entries: list[Entry]) -> list[Entry]:
    """By the worst case over all budgets, by clean accuracy where there is none; then by name."""

    def order(entry: Entry) -> tuple[float, float, str]:
        robust = next((entry.scores[k].value for k in entry.scores if k == "worst_case"), None)
        single = [s.value for k, s in entry.scores.items() if k.startswith("robust_")]
        robust = robust if robust is not None else min(single, default=0.0)
        return -robust, -entry.scores["clean"].value, entry.model

    return sorted(entries, key=order)


def _transfer(results: Results) -> dict[str, dict[str, float]]:
    found: dict[str, dict[str, float]] = {}
    for row in transfer_matrix([results]).to_dict("records"):
        at = f"{row['title']} {row['norm']} {row['budget']!r}"
        found.setdefault(at, {})[row["source"]] = row["accuracy"]
    return found
