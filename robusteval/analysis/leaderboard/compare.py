"""Runs -> a board: what may be compared, and what stands where."""

from __future__ import annotations

import json
from collections.abc import Sequence
from importlib.metadata import version

from robusteval.analysis import masking
from robusteval.analysis.leaderboard.board import ROBUST, WORST, Board, BoardColumn, BoardEntry, Score, TransferScore
from robusteval.analysis.leaderboard.ranks import rank
from robusteval.analysis.leaderboard.scores import scores, standard_autoattack
from robusteval.analysis.results import Results
from robusteval.analysis.transfer import transfer_matrix
from robusteval.core.errors import UserError
from robusteval.results.manifest import ProtocolRecord
from robusteval.results.records import CLEAN


def board_of(results: Results) -> Board:
    """A board of one model. Raises UserError if the run is not finished."""
    manifest = results.manifest
    if manifest.status != "complete":
        raise UserError(f"expected finished runs, got {results.path}, which its audit command continues")
    found = list(scores(results))
    serious = tuple(f.title for f in masking.flags(results) if f.severity == "serious")
    entry = BoardEntry(
        model=manifest.model.name,
        fingerprint=manifest.model.fingerprint,
        architecture=manifest.model.arch,
        training=manifest.model.training,
        run=str(results.path),
        scores={column.key: score for column, score in found},
        autoattack=standard_autoattack(results),
        flags=serious,
        transfer=_transfer(results),
    )
    return Board(
        robusteval=version("robusteval"),
        data=manifest.data.source,
        data_fingerprint=manifest.data.fingerprint,
        images=tuple(sorted(results.images["image_id"])),
        protocol=manifest.protocol,
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
    columns: dict[str, BoardColumn] = {}
    for board in boards:
        columns |= {c.key: columns.get(c.key, c) for c in board.columns}
    ordered = _best_first(_named(list(entries.values())))
    placed = _placed(ordered, list(columns.values()))
    return first.model_copy(update={"columns": tuple(columns.values()), "entries": tuple(placed)})


def _check(first: Board, other: Board) -> None:
    if first.data_fingerprint != other.data_fingerprint:
        raise _mixed(first, other, "images")
    if difference := _difference(first.protocol, other.protocol):
        raise _mixed(first, other, "protocol", f" ({difference})")


def _mixed(first: Board, other: Board, what: str, detail: str = "") -> UserError:
    runs = f"{first.entries[0].run} and {other.entries[0].run}"
    return UserError(
        f"expected runs of the same {what}, got {runs} with different ones{detail}; audit both with the same --data, "
        "--limit, --sample and --protocol"
    )


def _difference(first: ProtocolRecord, other: ProtocolRecord) -> str:
    """The first part of two protocols that is not the same, but for the description: the name, the budgets, a method;
    empty if there is none."""
    a, b = (p.model_dump(mode="json", exclude={"description"}) for p in (first, other))
    key = next((k for k in a if a[k] != b[k]), None)
    if key is None:
        return ""
    if key == "own_budgets":
        return "the budgets of single images"
    x, y = a[key], b[key]
    if isinstance(x, list) and isinstance(y, list):
        odd = next((e for e in (*x, *y) if (e in x) != (e in y)), None)
        return f"{key}: {odd.get('name', odd) if isinstance(odd, dict) else odd}"
    return f"{key}: {json.dumps(x)} and {json.dumps(y)}"


def _named(entries: list[BoardEntry]) -> list[BoardEntry]:
    """Two models of one name get the beginning of their fingerprints."""
    names = [e.model for e in entries]
    return [
        e.model_copy(update={"model": f"{e.model} {e.fingerprint[:8]}"}) if names.count(e.model) > 1 else e
        for e in entries
    ]


def _placed(entries: list[BoardEntry], columns: list[BoardColumn]) -> list[BoardEntry]:
    found: list[dict[str, Score]] = [dict(e.scores) for e in entries]
    for column in columns:
        here = [k for k, e in enumerate(entries) if column.key in e.scores and e.scores[column.key].images]
        values = [entries[k].scores[column.key].images for k in here]
        if len(counts := sorted(set(map(len, values)))) > 1:
            wanted, got = counts[-1], counts[0]
            raise UserError(f"expected '{column.key}' of as many images of each model ({wanted:,}), got {got:,} of one")
        for k, place in zip(here, rank(values, column.higher_is_better), strict=True):
            update = {"rank": place.first, "rank_last": place.last}
            ties = tuple(entries[here[j]].model for j in place.ties)
            found[k][column.key] = found[k][column.key].model_copy(update=update | {"ties": ties})
    return [e.model_copy(update={"scores": s}) for e, s in zip(entries, found, strict=True)]


def _best_first(entries: list[BoardEntry]) -> list[BoardEntry]:
    """By the worst case over all budgets, by clean accuracy where there is none; then by name."""

    def order(entry: BoardEntry) -> tuple[float, float, str]:
        robust = next((entry.scores[k].value for k in entry.scores if k == WORST), None)
        single = [s.value for k, s in entry.scores.items() if k.startswith(ROBUST)]
        robust = robust if robust is not None else min(single, default=0.0)
        return -robust, -entry.scores[CLEAN].value, entry.model

    return sorted(entries, key=order)


def _transfer(results: Results) -> tuple[TransferScore, ...]:
    """At budgets of all images."""
    return tuple(
        TransferScore(
            attack=row["title"], norm=row["norm"], budget=row["budget"], source=row["source"], accuracy=row["accuracy"]
        )
        for row in transfer_matrix([results]).dropna().to_dict("records")
    )
