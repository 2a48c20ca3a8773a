"""The numbers of a run that a report leads with, each with its 95 % interval."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from robusteval.analysis import masking
from robusteval.analysis.certification import rounding_of
from robusteval.analysis.costs import StageCost, stage_costs
from robusteval.analysis.curves import within
from robusteval.analysis.intervals import Median, Proportion, median, proportion, share
from robusteval.analysis.results import Results
from robusteval.analysis.sanity import warnings_of
from robusteval.analysis.standing import (
    Exact,
    NormBudgets,
    Standing,
    Width,
    asked_radii,
    exacts,
    proved_norms,
    standings,
    widths,
)
from robusteval.core.norms import BALLS, Norm
from robusteval.results.records import CertificateRecord
from robusteval.results.run import Run
from robusteval.sanity import SanityWarning

_BOUNDS = ("image_id", "correct", *(f"upper_{n}" for n in Norm), *(f"proof_{n}" for n in BALLS))
"""Of the table of bounds, what a summary counts."""


@dataclass(frozen=True)
class Robust:
    """Share of images without a witness of any attack within `budget`, each image's own where that is None: never below
    the true robust accuracy of these images."""

    norm: str
    budget: float | None
    share: Proportion


@dataclass(frozen=True)
class Distance:
    """Median over all images of the closest witness: misclassified images count 0, failures infinity."""

    norm: str
    median: Median


@dataclass(frozen=True)
class Certified:
    """Share of images that `subject` classifies correctly with a radius of at least `budget`."""

    stage: str
    title: str
    kind: str
    subject: str
    alpha: float | None
    norm: str
    budget: float
    share: Proportion


@dataclass(frozen=True)
class Calibrated:
    """An estimate on the images that it was not calibrated on: how many of its bounds a witness contradicts, as they
    are and times `factor`."""

    title: str
    norm: str
    delta: float
    calibrating: int
    factor: float
    before: Proportion
    after: Proportion


@dataclass(frozen=True)
class Summary:
    model: str
    data: str
    protocol: str
    complete: bool
    n: int
    clean: Proportion
    norms: tuple[str, ...]
    """In the order in which they are shown."""
    robust: tuple[Robust, ...]
    distances: tuple[Distance, ...]
    standings: tuple[Standing, ...]
    attacked: frozenset[Norm]
    """The norms that an attack searched in."""
    proved: frozenset[Norm]
    """The norms that a proof of the model itself was tried in, or holds in."""
    widths: tuple[Width, ...]
    exacts: tuple[Exact, ...]
    """In the norms that an attack searched in."""
    certified: tuple[Certified, ...]
    calibrated: tuple[Calibrated, ...]
    guarantees: frozenset[str]
    """The kinds of the certificates that ran: proof, confidence, estimate."""
    costs: tuple[StageCost, ...]
    contradictions: int
    """How many images have a lower bound above a witness."""
    contradicted: tuple[tuple[str, int], ...]
    """Those lower bounds by title, each with its number of images."""
    rounding: tuple[tuple[str, str], ...]
    """The certificates by title whose radii are 0 for rounding alone on some images: on how many, and what to do."""
    flags: tuple[masking.Flag, ...]
    """Signs of gradient masking, and of what else makes distances doubtful."""
    masking_checked: bool
    """Whether signs of gradient masking were looked for."""
    warnings: tuple[SanityWarning, ...]
    """Whether the data, the labels and the settings fit the model."""
    failed: tuple[tuple[str, str], ...]
    """Titles of stages that an error stopped, each with that error."""

    @property
    def leading_flags(self) -> tuple[masking.Flag, ...]:
        """The causes among the flags; all of them where none is one."""
        return tuple(f for f in self.flags if f.cause) or self.flags

    @property
    def other_flags(self) -> tuple[masking.Flag, ...]:
        """The others, which may follow from these."""
        return tuple(f for f in self.flags if f not in self.leading_flags)

    @property
    def doubts(self) -> tuple[str, ...]:
        """The titles of the leading flags that are serious: why not to rely on the numbers."""
        return tuple(f.title for f in self.leading_flags if f.severity == "serious")

    @property
    def unavailable(self) -> tuple[StageCost, ...]:
        stopped = {title for title, _ in self.failed}
        return tuple(c for c in self.costs if not c.available and c.title not in stopped)


def summarise(run: Run | Results) -> Summary:
    """The summary of a finished run, from its tables and its manifest."""
    results = Results.of(run)
    images, bounds = results.images, results.columns("bounds", _BOUNDS)
    manifest = results.manifest
    budgets, own = manifest.protocol.budgets, manifest.protocol.own_budgets
    contradictions = _contradictions(results)
    return Summary(
        model=manifest.model.name,
        data=manifest.data.source,
        protocol=manifest.protocol.name,
        complete=manifest.complete,
        n=len(images),
        clean=proportion(images["correct"]),
        robust=tuple(
            Robust(norm, budget, proportion(~within(bounds[f"upper_{norm}"], radii)))
            for norm, budget, radii in asked_radii(bounds, budgets, own)
            if results.attacked
        ),
        distances=tuple(Distance(n, median(bounds[f"upper_{n}"])) for n in results.norms if n in results.attacked),
        standings=standings(bounds, budgets, own),
        attacked=results.attacked,
        proved=proved_norms(results.certificates_ran),
        norms=tuple(results.norms),
        widths=widths(bounds, results.norms) if results.attacked else (),
        exacts=exacts(bounds, [n for n in results.norms if n in results.attacked]),
        certified=_certified(results, budgets),
        calibrated=_calibrated(results),
        guarantees=frozenset(s.guarantee for s in results.certificates_ran),
        costs=stage_costs(results),
        contradictions=sum(contradictions.values()),
        contradicted=_contradicted(results, contradictions),
        rounding=tuple(
            (results.titles[entry.name], said)
            for entry in results.certificates_ran
            if (said := rounding_of(results, entry.name))
        ),
        flags=tuple(masking.flags(results)),
        masking_checked=masking.checked(results),
        warnings=warnings_of(results),
        failed=tuple((results.titles[s.name], s.reason) for s in manifest.failed),
    )


def _contradictions(results: Results) -> dict[str, int]:
    """The lists of certificates that a witness contradicts, each with its number of images."""
    listed = results.columns("bounds", ["contradictions"])["contradictions"].value_counts()
    return {str(names): int(count) for names, count in listed.items() if names}


def _contradicted(results: Results, lists: Mapping[str, int]) -> tuple[tuple[str, int], ...]:
    found: Counter[str] = Counter()
    for names, count in lists.items():
        found.update(dict.fromkeys(filter(None, names.split("; ")), count))
    return tuple((title, found[name]) for name, title in results.titles.items() if found[name])


def _certified(results: Results, budgets: NormBudgets) -> tuple[Certified, ...]:
    return tuple(
        Certified(
            stage=entry.name,
            title=results.titles[entry.name],
            kind=entry.guarantee,
            subject=entry.subject,
            alpha=entry.alpha,
            norm=entry.norm,
            budget=budget,
            share=proportion(results.radii(entry.name) >= budget),
        )
        for entry in results.certificates_ran
        for budget in _radii(entry, budgets.get(entry.norm, []))
    )


def _radii(entry: CertificateRecord, budgets: Sequence[float]) -> list[float]:
    """The budgets that a certificate can speak of, and the radius in question of one that looks no further."""
    limit = entry.limit
    return sorted({*budgets} if limit is None else {*(b for b in budgets if b <= limit), limit})


def _calibrated(results: Results) -> tuple[Calibrated, ...]:
    return tuple(
        Calibrated(
            results.titles[row["method"]],
            row["norm"],
            row["delta"],
            row["calibrating"],
            row["factor"],
            share(row["violated_before"], row["tested"]),
            share(row["violated_after"], row["tested"]),
        )
        for row in results.calibration.to_dict("records")
        if row["tested"]
    )
