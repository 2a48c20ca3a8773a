"""A model's numbers as the JSON that RobustBench's model_info folder holds, so that it can be submitted there.

Fields are those of robustbench/leaderboard/template.py; percentages are text with two decimals, as there.
"""

from __future__ import annotations

from typing import Any

from robusteval.analysis import names, show
from robusteval.analysis.leaderboard.board import Board, BoardEntry
from robusteval.analysis.show import Round
from robusteval.core.norms import Norm
from robusteval.core.plain_names import as_plain_name
from robusteval.results.records import CLEAN

THREATS = (Norm.LINF, Norm.L2)
"""The norms that RobustBench ranks."""
UNKNOWN = {"link": None, "authors": None, "additional_data": None, "venue": None}
"""What no audit knows; the submitter fills it in."""


def submissions(board: Board, entry: BoardEntry) -> dict[str, dict[str, Any]]:
    """One JSON a threat model and budget of all images, by "<norm>-<budget>". `reported` is the accuracy under all
    attacks of the protocol; `autoattack_acc` that under the standard AutoAttack alone, null where the audit did not run
    it at that budget. Both are rounded up. `footnote` says which protocol on how many images, and how the model was
    trained; RobustBench itself runs AutoAttack on the whole test set again."""
    found = {}
    for column in board.columns:
        eps, norm = column.budget, column.norm
        if eps in (None, names.OWN) or not column.robust or norm not in THREATS or column.key not in entry.scores:
            continue
        under_autoattack = entry.autoattack.get(column.key)
        found[as_plain_name(f"{norm.symbol}-{eps}", "budget")] = {
            **UNKNOWN,
            "name": entry.model,
            "number_forward_passes": 1,
            "dataset": board.data,
            "architecture": entry.architecture,
            "eps": eps,
            "clean_acc": show.percentage(entry.scores[CLEAN].value, 2),
            "reported": show.percentage(entry.scores[column.key].value, 2, Round.UP),
            "autoattack_acc": None if under_autoattack is None else show.percentage(under_autoattack, 2, Round.UP),
            "footnote": f"robusteval {board.robusteval}, protocol {board.protocol.name}, {len(board.images):,} images"
            + (f"; trained by: {entry.training}" if entry.training else ""),
            "unreliable": bool(entry.flags),
        }
    return found
