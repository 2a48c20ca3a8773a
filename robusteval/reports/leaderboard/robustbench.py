"""A model's numbers as the JSON that RobustBench's model_info folder holds, so that it can be submitted there.

Fields are those of robustbench/leaderboard/template.py; percentages are text with two decimals, as there.
"""

from __future__ import annotations

from typing import Any

from robusteval.analysis import show
from robusteval.analysis.leaderboard.board import Board, Entry
from robusteval.analysis.show import Round

THREATS = {"linf": "Linf", "l2": "L2"}
"""The norms that RobustBench ranks."""
UNKNOWN = {"link": None, "authors": None, "additional_data": None, "venue": None}
"""What no audit knows; the submitter fills it in."""


def exports(board: Board, entry: Entry) -> dict[str, dict[str, Any]]:
    """One JSON a threat model and budget, by "<norm>-<budget>": robust accuracy under all attacks of the protocol,
    rounded up. `footnote` says with which; RobustBench itself runs AutoAttack on the whole test set again."""
    found = {}
    for column in board.columns:
        if column.key not in entry.scores or column.norm not in THREATS or not column.key.startswith("robust_"):
            continue
        eps = column.key.rsplit("_", 1)[1]
        robust = show.fixed(entry.scores[column.key].value * 100, 2, Round.UP)
        found[f"{THREATS[column.norm]}-{eps.replace('/', '_')}"] = {
            **UNKNOWN,
            "name": entry.model,
            "number_forward_passes": 1,
            "dataset": board.data,
            "architecture": entry.architecture,
            "eps": eps,
            "clean_acc": show.fixed(entry.scores["clean"].value * 100, 2),
            "reported": robust,
            "autoattack_acc": robust,
            "footnote": (
                f"robusteval {board.robusteval}, protocol {board.protocol['name']}, {len(board.images):,} images"
            ),
            "unreliable": bool(entry.flags),
        }
    return found
