"""What a run has to reach, as one line: "linf 8/255 >= 40%". For gates in continuous integration."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from robusteval.analysis import names, show
from robusteval.analysis.intervals import Proportion
from robusteval.analysis.summary import Summary
from robusteval.core.errors import UserError
from robusteval.core.norms import Norm
from robusteval.core.numbers import finite

FORM = "'clean >= 90%', 'linf 8/255 >= 40%' or 'certified l2 0.5 >= 10%'"
_LINE = re.compile(r"(clean|(certified |robust )?(l0|l1|l2|linf) ([^\s>]+))\s*>=\s*([^\s%]+)\s*(%?)", re.IGNORECASE)


@dataclass(frozen=True)
class Requirement:
    """A share of the images that has to be reached. kind: "clean" accuracy; "robust", the share that no attack fooled
    within `budget` in `norm`, each image's own where that is None; or "certified", the share with a proof or a
    confidence bound of at least `budget`, of the audited model itself and by the best single certificate."""

    text: str
    kind: str
    norm: str
    budget: float | None
    share: float

    def unmet(self, summary: Summary) -> str:
        """Why a run does not reach it, empty where it does. Beside a serious flag of the report no robust accuracy
        is relied on: an attack that fails for a defect of the model is no robustness."""
        what = self.kind if self.kind == "clean" else f"{self.kind} {names.at(self.norm, self.budget)}"
        if self.kind == "robust" and summary.doubts:
            return f"{what}: not to be relied on: {'; '.join(summary.doubts)}"
        best = max(self._shares(summary), key=lambda p: p.value, default=None)
        if best is None:
            return f"{what}: the run has no such number"
        if best.value >= self.share:
            return ""
        return f"{what}: {best.count} of {best.n} images ({show.percent(best.value, show.Round.DOWN)})"

    def _shares(self, summary: Summary) -> Iterable[Proportion]:
        if self.kind == "clean":
            return [summary.clean]
        if self.kind == "robust":
            return [r.share for r in summary.robust if (r.norm, r.budget) == (self.norm, self.budget)]
        return [
            c.share
            for c in summary.certified
            if c.subject == "f" and c.kind != "estimate" and c.norm == self.norm and c.budget >= (self.budget or 0.0)
        ]


def parse_requirement(text: str, budgets: Mapping[Norm, Sequence[float]], own: Collection[Norm] = ()) -> Requirement:
    """A requirement on a run whose protocol has these budgets, or in `own` norms one for each image, which is written
    "linf own >= 40%". Raises UserError where it is none, or asks for a budget that the protocol does not have."""
    found = _LINE.fullmatch(text.strip())
    if found is None:
        raise UserError(f"expected --require as {FORM}, got '{text}'")
    try:
        share = finite(found[5]) / (100 if found[6] else 1)
        each = (found[4] or "").lower() == names.OWN and found[3].lower() in own
        budget = None if each else finite(found[4]) if found[4] else 0.0
    except ValueError as error:
        raise UserError(f"expected --require as {FORM}, got '{text}': {error}") from None
    if not 0 <= share <= 1:
        raise UserError(f"expected a share of 0 to 100% in --require, got '{text}'")
    kind = "clean" if not found[3] else (found[2] or "robust").strip().lower()
    norm = (found[3] or "").lower()
    if each and kind == "certified":
        raise UserError(f"expected a budget of all images for a certified share in --require, got '{text}'")
    if norm and not each and budget not in budgets.get(Norm(norm), ()):
        known = ", ".join(names.at(n.value, b) for n, values in budgets.items() for b in values)
        raise UserError(f"expected a budget of the protocol in --require ({known or 'it has none'}), got '{text}'")
    return Requirement(text, kind, norm, budget, share)
