"""leaderboard.html, .md, .csv, .json, .tex, its figures, its JSON schema and RobustBench's JSON, from a board."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pandas as pd
from pydantic import ValidationError

from robusteval.analysis.leaderboard.board import Board
from robusteval.core.errors import LONGEST, UserError, explain
from robusteval.core.limits import BOARD_TEXT, MANIFEST_BYTES, check_limit_of, read_limited
from robusteval.core.plain_names import as_plain_name
from robusteval.reports.figures.drawing import Plot, save_all
from robusteval.reports.formats import latex, markdown
from robusteval.reports.formats.page import render
from robusteval.reports.leaderboard.figures import plots
from robusteval.reports.leaderboard.grids import NOTE, cell, grids, groups, transfer
from robusteval.reports.leaderboard.paper_table import paper_table
from robusteval.reports.leaderboard.ranking import board_subject, ranking, ranking_grid
from robusteval.reports.leaderboard.robustbench import submissions
from robusteval.results.below import as_csv, write_below

FILE = "leaderboard.json"


def read_board(path: Path) -> Board:
    """A board from its leaderboard.json, or from the folder that holds one. Raises UserError."""
    path = path / FILE if path.is_dir() else path
    try:
        board = Board.model_validate_json(read_limited(path, MANIFEST_BYTES, "a leaderboard to add to"))
    except ValidationError as error:
        why = explain(error)
        raise UserError(
            f"expected a leaderboard of robusteval in {path}, got another file: {why}; make it again from its runs"
        ) from error
    drawn = [text for column in board.columns for text in (column.key, column.title)]
    for text in (*drawn, *(entry.model for entry in board.entries)):
        check_limit_of(f"'{text[:LONGEST]}...' of {path}", len(text), BOARD_TEXT, "characters")
    return board


def write_board(board: Board, folder: Path | str) -> Path:
    """Write the board in all its forms into `folder`; return the path of leaderboard.html."""
    folder = Path(folder)
    drawn = save_all(plots(board), folder / "figures")
    texts = {
        # In ASCII: what turns the direction of writing, or is unseen, stands in it as an escape.
        FILE: json.dumps(json.loads(board.model_dump_json()), indent=1),
        "leaderboard.schema.json": json.dumps(Board.model_json_schema(mode="serialization"), indent=1),
        "leaderboard.csv": as_csv(as_frame(board)),
        "leaderboard.md": board_as_markdown(board),
        "leaderboard.tex": paper_table(board),
        **{f"tables/{grid.key}.tex": latex.table(grid) for grid in (*grids(board), *transfer(board))},
        "leaderboard.html": _html(board, drawn),
    }
    for name, entry in zip(_file_names(board), board.entries, strict=True):
        for threat, export in submissions(board, entry).items():
            texts[f"robustbench/{threat}/{name}.json"] = json.dumps(export, indent=2)
    for name, text in texts.items():
        write_below(folder, name, text)
    return folder / "leaderboard.html"


def _file_names(board: Board) -> list[str]:
    """One a model, from its name; those that several would share get the beginning of their fingerprints."""
    names = [as_plain_name(entry.model) for entry in board.entries]
    count = Counter(map(str.lower, names))
    return [
        as_plain_name(f"{name}-{entry.fingerprint[:8]}", longest=120) if count[name.lower()] > 1 else name
        for name, entry in zip(names, board.entries, strict=True)
    ]


def as_frame(board: Board) -> pd.DataFrame:
    """One row a model and column: the number in full precision and as shown, its interval and its place."""
    return pd.DataFrame(
        [
            {
                "model": entry.model,
                "architecture": entry.architecture,
                "training": entry.training,
                "quantity": column.key,
                "title": column.title,
                "value": score.value,
                "low": score.low,
                "high": score.high,
                "shown": score.shown,
                "interval": score.interval,
                "place": score.rank,
                "place_last": score.rank_last,
                "not_significantly_different_from": "; ".join(score.ties),
            }
            for entry in board.entries
            for column in board.columns
            if (score := entry.scores.get(column.key)) is not None
        ]
    ).astype({"place": "Int64", "place_last": "Int64"})


def board_as_markdown(board: Board) -> str:
    parts = [
        "# Leaderboard",
        markdown.escaped(board_subject(board)),
        *(f"> **{markdown.escaped(e.model)}**: {markdown.escaped(f)}." for e in board.entries for f in e.flags),
        *markdown.titled_tables([ranking_grid(board)]),
        "## Each column",
        markdown.escaped(NOTE),
        *(
            x
            for g in grids(board)
            for x in (f"### {markdown.escaped(g.title)}", markdown.table(g), markdown.escaped(g.note))
        ),
        *(
            ("## Transfer", "Accuracy of each model (column) under attacks made on another (row).")
            * bool(transfer(board))
        ),
        *(x for g in transfer(board) for x in (f"### {markdown.escaped(g.title)}", markdown.table(g))),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _html(board: Board, drawn: list[tuple[Plot, str]]) -> str:
    return render(
        "leaderboard.html",
        "leaderboard.js",
        board=board,
        subject=board_subject(board),
        ranking=ranking(board),
        groups=groups(board),
        cell=cell,
        note=NOTE,
        transfer=transfer(board),
        drawn=drawn,
    )
