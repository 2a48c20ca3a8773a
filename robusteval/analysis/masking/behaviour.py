"""Flags that follow from what the audit stumbled over: outputs that are no function of the image, answers and gradients
that are not finite, methods that an error stopped."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from robusteval.analysis import show
from robusteval.analysis.masking import signs as masking
from robusteval.analysis.masking.flag import Flag, Hits, counted_images, flag, rare
from robusteval.analysis.non_finite import unanswered
from robusteval.analysis.results import Results
from robusteval.models.tolerances import ALONE, RANDOM
from robusteval.results.records import DIFFERS, REPEAT, SANITY, StageRecord


class Observed:
    """What the sanity stage and the attacks of a run noted of the model."""

    def __init__(self, results: Results) -> None:
        self.results = results
        self.looked = results.rows("measurements", SANITY)
        found = results.rows("statistics", SANITY)
        self.decided = dict(zip(found["quantity"], found["value"], strict=True))

    def flags(self) -> Iterator[Flag]:
        if self.decided.get("random"):
            yield flag("random-outputs", self._random())
        last = self.results.rows("measurements", REPEAT)
        drift = last.loc[last["quantity"] == "change_since", "value"].to_numpy(np.float64) > RANDOM
        if drift.any():
            then = "have other outputs at the end of the audit than at its beginning."
            yield flag("random-outputs", f"{counted_images(drift)} {then}")
        yield from self.repetition(last)
        if self.decided.get("batch_dependent"):
            yield flag("batch-dependent-outputs", self._batch())
        yield from self.answers()
        yield from self.gradients()
        if failed := self.results.manifest.failed:
            yield flag("failed-methods", " ".join(self._failed(failed)))

    def repetition(self, last: pd.DataFrame) -> Iterator[Flag]:
        """What came out differently when a shard was computed twice; of random outputs that is no news."""
        if self.decided.get("random"):
            return
        said = []
        for quantity, rows in last[last["quantity"].str.startswith(DIFFERS)].groupby("quantity", sort=False):
            worst, title = (
                rows.iloc[int(rows["value"].to_numpy().argmax())],
                self.results.titles[str(quantity).removeprefix(DIFFERS)],
            )
            said.append(
                f"{title}, computed twice, gives other rows to {show.images(len(rows))}, most of all to "
                f"{worst['image_id']}, where a value changes by {show.percent(worst['value'])}."
            )
        if said:
            yield flag("differing-repetition", " ".join(said))

    def _failed(self, failed: Sequence[StageRecord]) -> Iterator[str]:
        """A sentence for each error, with the methods that it stopped."""
        for reason in dict.fromkeys(s.reason for s in failed):
            stopped = [self.results.titles[s.name] for s in failed if s.reason == reason]
            yield f"{reason.rstrip('.')}, in {show.first_of(stopped)}."

    def answers(self) -> Iterator[Flag]:
        """Evaluations without a finite answer, of the attacks and of the noise behind certificates and metrics."""
        hit = self._attacked_with("non_finite")
        said = []
        if hit.any():
            said.append(
                f"The model gives no finite answer to {int(hit.sum()):,} of {len(hit):,} attacked images, at some of "
                "the points that the attacks tried."
            )
        others = (unanswered(self.results, e.name) for e in (*self.results.certificates_ran, *self.results.metrics_ran))
        if found := [other.title for other in others if other]:
            said.append(f"Noisy copies of images got none either: {'; '.join(found)}.")
        if said:
            yield flag("non-finite-outputs", " ".join(said))

    def gradients(self) -> Iterator[Flag]:
        """Gradients at the images as they are, and those that attacks met on their way."""
        size, other = self._looked("gradient_size"), self._looked("gradient_size_margin")
        none = np.isnan(size) | ((size == 0) & (other == 0))
        what = "get no gradient from the model, or one that is zero everywhere"
        yield from rare("unavailable-gradients", none, what)
        vanishing = ~none & (size < masking.VANISHING)
        yield from rare("vanishing-gradients", vanishing, "have a vanishing gradient of the cross-entropy")
        if not self.decided.get("random"):
            changed = self._looked("gradient_change") > masking.CHANGED
            yield from rare("random-gradients", changed, "have another gradient when it is computed again")
        broken = np.isinf(size) | np.isinf(other)
        yield from rare("non-finite-gradients", broken, "have a gradient with entries that are not finite")
        hit = self._attacked_with("non_finite_gradients")
        what = "met gradients with entries that are not finite on the way of an attack"
        yield from rare("non-finite-gradients", hit, what)

    def _random(self) -> str:
        n = self._looked("change_again") > RANDOM
        ran = self.results.attacks_ran
        found = [self.results.rows("measurements", e.name, ["value"], ["fooled_share"])["value"] for e in ran]
        shares = np.concatenate([np.zeros(0), *found])
        often = ""
        if len(shares):
            low, middle = float(shares.min()), float(np.median(shares))
            often = (
                f" An image counts as fooled where most of several evaluations are wrong: the median witness fools in "
                f"{show.percent(middle)} of them, the weakest in {show.percent(low)}."
            )
        return f"{counted_images(n)} have other outputs when they are evaluated again.{often}"

    def _batch(self) -> str:
        n = self._looked("change_alone") > ALONE
        if self.decided.get("single"):
            then = (
                "Each image was therefore evaluated by itself throughout, which is not what the model does in batches."
            )
        else:
            then = "The model takes no single images, so that every result depends on how they were cut into batches."
        return f"{counted_images(n)} have other outputs in a batch than by themselves. {then}"

    def _looked(self, quantity: str) -> NDArray[np.float64]:
        """The values of the images that the sanity stage looked at."""
        return self.looked.loc[self.looked["quantity"] == quantity, "value"].to_numpy(np.float64)

    def _attacked_with(self, quantity: str) -> Hits:
        """Which images that are right have a count of one or more in a quantity of an attack."""
        hit = np.zeros(len(self.results.images), dtype=np.bool_)
        for entry in self.results.attacks_ran:
            for rows in self.results.pieces("measurements", ["image_id", "value"], entry.name, [quantity]):
                hit[self.results.places_of(rows.loc[rows["value"] >= 1, "image_id"])] = True
        found: Hits = hit[self.results.correct]
        return found
