"""The plan of an audit: its stages in order."""

from __future__ import annotations

import typing
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain, count

from robusteval.attacks.base import Attack
from robusteval.auditing.protocol import Entry, Protocol
from robusteval.auditing.stages.attack import AttackStage
from robusteval.auditing.stages.base import Stage
from robusteval.auditing.stages.certificate import CertificateStage
from robusteval.auditing.stages.clean import CleanStage
from robusteval.auditing.stages.every_budget import EveryBudgetStage
from robusteval.auditing.stages.metric import ImageMetricStage, MetricStage, SetMetricStage
from robusteval.auditing.stages.repeat import RepeatStage
from robusteval.auditing.stages.sanity import SanityStage
from robusteval.auditing.stages.targeted import judged_by_target
from robusteval.auditing.stages.top_k import judged_by_top
from robusteval.core.plain_names import as_plain_name
from robusteval.metrics.base import ImageMetric, Metric, SetMetric


class Named(typing.Protocol):
    """A model, of which a plan needs nothing but the name."""

    @property
    def name(self) -> str: ...


def plan(protocol: Protocol, sources: Sequence[Named] = ()) -> tuple[Stage, ...]:
    """The sanity checks and the clean predictions first, then attacks, certificates and metrics as the protocol lists
    them, but for attacks that improve what the others found, which run after those; the images once more last."""
    stages: list[Stage] = [SanityStage(), CleanStage()]
    others = (*(e.label for e in protocol.certificates), *(e.label for e in protocol.metrics))
    taken = {label.casefold() for label in (*(e.label for e in protocol.attacks), *others)}
    attacks: list[AttackStage] = []
    for entry in protocol.attacks:
        if not entry.method.on_witnesses:
            each = entry.method.fixed_budget and not entry.budgets
            own = protocol.own_budgets.get(entry.method.norm) if each else None
            attacks += _attacks(entry, [source.name for source in sources], taken, own)
    stages += attacks
    for entry in protocol.attacks:
        if entry.method.on_witnesses:
            label, method, origin = entry.label, entry.method, entry.origin
            stages.append(AttackStage(label, method, origin, label, (None,), starts_from=tuple(attacks)))
    if protocol.top > 1:
        stages = [judged_by_top(stage, protocol.top) for stage in stages]
    if isinstance(protocol.target, str):
        raise ValueError(f"expected the number of the class '{protocol.target}', which its images or its model know")
    if protocol.target is not None:
        stages = [judged_by_target(stage, protocol.target) for stage in stages]
    for certificate in protocol.certificates:
        given = protocol.own_budgets.get(certificate.method.norm)
        stages.append(CertificateStage(certificate.label, certificate.method, certificate.origin, own=given))
    stages += [_metric(e) for e in protocol.metrics]
    # Margins over the top k are another thing at each label, and those over a target are another thing, too.
    if protocol.top == 1 and protocol.target is None:
        stages.append(RepeatStage(others=tuple(stages)))
    return tuple(stages)


def _attacks(
    entry: Entry[Attack], sources: Sequence[str], taken: set[str], own: Mapping[str, float] | None
) -> Iterator[AttackStage]:
    """One stage, with the `own` budgets of the images, if any; of an attack on other models, one for each of them,
    under names that are not `taken`, nor differ from one by the case of letters alone; they are from then on."""
    label, method, origin, budgets = entry.label, entry.method, entry.origin, entry.budgets or (None,)
    kind = EveryBudgetStage if entry.every_budget else AttackStage
    if not method.on_sources:
        yield kind(label, method, origin, label, budgets, own=own)
    elif not sources:
        reason = "expected at least one --source checkpoint to transfer from, got none"
        yield kind(label, method, origin, label, budgets, unavailable=reason, own=own)
    else:
        for i, source in enumerate(sources):
            name = f"{label}-from-{as_plain_name(source, longest=60)}"
            numbered = (f"{name}-{k}" for k in count(i + 1))
            name = next(n for n in chain([name], numbered) if n.casefold() not in taken)
            taken.add(name.casefold())
            yield kind(name, method, origin, label, budgets, i, source, own=own)


def _metric(entry: Entry[Metric]) -> MetricStage:
    """Raises TypeError for a metric that measures neither single images nor the whole set."""
    label, method, origin = entry.label, entry.method, entry.origin
    if isinstance(method, SetMetric):
        return SetMetricStage(label, method, origin)
    if isinstance(method, ImageMetric):
        return ImageMetricStage(label, method, origin)
    raise TypeError(f"expected {type(method).__name__} to be an ImageMetric or a SetMetric")
