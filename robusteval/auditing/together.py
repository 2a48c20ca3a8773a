"""Several checkpoints audited side by side, each with the others as sources of its transfer attacks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from robusteval.auditing.protocol import Protocol
from robusteval.auditing.session import run_audit
from robusteval.core.errors import UserError
from robusteval.core.images import Images
from robusteval.core.plain_names import as_plain_name
from robusteval.models.classifier import Classifier
from robusteval.results.lock import locked
from robusteval.results.places import working_at
from robusteval.results.run import Run


def audit_together(
    models: Sequence[Classifier],
    images: Images,
    protocol: str | Protocol,
    out: str | Path,
    *,
    sources: Sequence[Classifier] = (),
    ended: Callable[[Run], None] = lambda run: None,
    **options: Any,
) -> list[Run]:
    """Run a protocol on each model; one model into `out` itself, several into `out`/NAME each.

    Every model is attacked from all others and from `sources`. A model is no source of its own: SGR holds it against a
    separately trained twin, which is given among the sources. `ended` is given each run as soon as it is whole, before
    the next one begins. `options` are those of run_audit.
    """

    def audited(model: Classifier, folder: Path, others: Sequence[Classifier]) -> Run:
        run = run_audit(model, images, protocol, folder, sources=others, **options)
        ended(run)
        return run

    if len(models) == 1:
        with working_at(out) as folder:
            return [audited(models[0], folder, sources)]
    names = [as_plain_name(model.name) for model in models]
    folded = [name.casefold() for name in names]
    twice = next((name for name, key in zip(names, folded, strict=True) if folded.count(key) > 1), None)
    if twice is not None:
        raise UserError(
            f"expected checkpoints of distinct names, got '{twice}' twice; rename one of the files, or audit each by "
            "itself with an --out of its own"
        )
    with working_at(out) as folder, locked(folder):
        return [
            audited(model, folder / name, [*(other for other in models if other is not model), *sources])
            for model, name in zip(models, names, strict=True)
        ]
