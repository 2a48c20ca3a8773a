"""Certified accuracy at the budgets of a protocol: by proofs of the model, and by each bound of a smoothed one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from robusteval.analysis import names
from robusteval.analysis.leaderboard.board import CERTIFIED, BoardColumn, Score
from robusteval.analysis.leaderboard.shares import share_score
from robusteval.analysis.results import Results
from robusteval.analysis.show import Round, budget
from robusteval.core.norms import BALLS, Norm
from robusteval.results.bracket import HOLDS_IN
from robusteval.results.records import CertificateRecord


def certified_shares(results: Results) -> Iterator[tuple[BoardColumn, Score]]:
    """At each budget the share of images classified correctly whose proof of the model itself reaches it, by the best
    proof of each image; then the same of each bound that holds with confidence. Estimates certify nothing."""
    ran = results.certificates_ran
    proofs = [record for record in ran if record.guarantee == "proof" and record.subject == "f"]
    for norm, budgets in results.manifest.protocol.budgets.items():
        if norm not in BALLS:
            continue
        own = [record for record in proofs if record.norm in HOLDS_IN[norm]]
        for at in _looked_at(budgets, own):
            note = (
                "at least: the share of images classified correctly whose proof reaches the budget, by the best proof"
            )
            title = f"Certified accuracy, {names.at(norm, at)}"
            radii = results.columns("bounds", [f"proof_{norm}"])[f"proof_{norm}"].to_numpy(np.float64)
            proven = radii[results.by_id] >= at
            key = f"{CERTIFIED}{norm}_{budget(at)}"
            yield (
                BoardColumn(key=key, title=title, kind="lower", norm=norm, note=note),
                share_score(proven, Round.DOWN),
            )
        for record in (r for r in ran if r.guarantee == "confidence" and r.norm == norm):
            radii = results.radii(record.name).to_numpy(np.float64)[results.by_id]
            for at in _looked_at(budgets, [record]):
                yield _of_one(results, record, norm, at), share_score(radii >= at, Round.DOWN)


def _of_one(results: Results, record: CertificateRecord, norm: Norm, at: float) -> BoardColumn:
    subject = names.subject(record.subject)
    note = (
        f"at least: the share of images that {subject} classifies correctly with at least that radius, by "
        f"{results.titles[record.name]}; each is wrong with a probability of at most {record.alpha or 0:g}"
    )
    key = f"{CERTIFIED}{norm}_{budget(at)}_{record.name}"
    title = f"Certified accuracy of {subject}, {names.at(norm, at)}"
    return BoardColumn(key=key, title=title, kind="lower", norm=norm, note=note)


def _looked_at(budgets: Sequence[float], records: Sequence[CertificateRecord]) -> list[float]:
    """The budgets that one of the certificates looks as far as."""
    furthest = max((np.inf if r.limit is None else float(r.limit) for r in records), default=-np.inf)
    return [at for at in sorted(budgets) if at <= furthest]
