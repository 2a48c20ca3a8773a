"""What was asked of an audit, as its manifest; and whether a run directory holds the same request."""

from __future__ import annotations

import math
import platform
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, get_args

from robusteval.auditing.budgets import of_images
from robusteval.auditing.hardware import Throughput
from robusteval.auditing.protocol import Protocol
from robusteval.auditing.stages.base import Stage
from robusteval.core import user_code
from robusteval.core.errors import UnsupportedError, UserError
from robusteval.core.images import Images
from robusteval.models.classifier import Classifier
from robusteval.models.plain import card_classes, check_batch_size, check_fit, check_sources, labelled_for
from robusteval.models.targeted import number_of, of_others
from robusteval.results.lock import LOCK, locked
from robusteval.results.manifest import NAME, DataRecord, ImagesKept, Manifest, ModelRecord, ProtocolRecord
from robusteval.results.mending import is_leftover
from robusteval.results.run import Run

_PACKAGES = ("torch", "foolbox", "pyautoattack", "scipy", "numpy", "pandas", "statsmodels")
_SAME: dict[str, Callable[[Manifest], Any]] = {
    "architecture": lambda m: _architecture(m.model),
    "model": lambda m: m.model.fingerprint,
    "source models": lambda m: [s.fingerprint for s in m.sources],
    "data set": lambda m: m.data.fingerprint,
    "protocol": lambda m: m.protocol,
    "seed": lambda m: m.seed,
    "dtype": lambda m: m.dtype,
    "number of evaluations averaged (--eot)": lambda m: m.averaged,
    "images kept as evidence (--evidence)": lambda m: m.images_kept,
}
"""What a run directory must share with the request that continues it."""


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def asked_images(
    classifier: Classifier, sources: Sequence[Classifier], images: Images, protocol: Protocol
) -> tuple[Images, Protocol]:
    """The images of an audit, with the labels that their classes have in the model; without those of the protocol's
    target. And the protocol, its target as a number, and with what it says of these images alone. Raises UserError for
    images that do not fit the models, or that do not fit together, and for a protocol that lacks something of them."""
    images = labelled_for(classifier, images.checked())
    check_fit(classifier, images)
    check_sources(classifier, sources, images)
    target = number_of(protocol.target, classifier, images.class_names)
    images = of_others(classifier, images, target)
    return images, replace(protocol, target=target, own_budgets=of_images(protocol.own_budgets, images))


def new_manifest(
    classifier: Classifier,
    sources: Sequence[Classifier],
    images: Images,
    protocol: Protocol,
    stages: Sequence[Stage],
    *,
    seed: int,
    dtype: str,
    device: str,
    command: Sequence[str],
    limit: int | None,
    averaged: int = 1,
    sample: int | None = None,
    evidence: str = "all",
) -> Manifest:
    """The manifest of a run that has not begun; its batch size is not chosen yet. Raises UserError for `evidence` that
    is none of those that there are."""
    return Manifest(
        robusteval=version("robusteval"),
        command=tuple(command),
        seed=seed,
        dtype=dtype,
        device=device,
        batch_size=0,
        protocol=ProtocolRecord.model_validate(protocol.as_json()),
        model=model_record(classifier),
        sources=tuple(map(model_record, sources)),
        averaged=averaged,
        images_kept=_kept(evidence),
        data=DataRecord(
            source=images.source,
            count=len(images),
            limit=limit,
            sample=sample,
            reading=images.reading,
            fingerprint=images.fingerprint(),
            class_names=images.class_names or card_classes(classifier),
        ),
        versions={"python": platform.python_version()} | {name: version(name) for name in _PACKAGES},
        started=now(),
        stages=tuple(stage.record() for stage in stages),
    )


def open_or_create(path: Path, asked: Manifest, batch_size: int | str, measure: Callable[[], Throughput]) -> Run:
    """The run directory for a request: a new one, or the one that is there if it holds the same request.

    Raises UserError that names the first difference; what the directory holds stays as it is.
    """
    check_asked_size(batch_size)
    if not (path / NAME).exists():
        check_place(path)
        measured = Throughput(batch_size, math.inf) if isinstance(batch_size, int) else measure()
        cut = {"batch_size": measured.batch_size, "batches": measured.batches(asked.data.count)}
        run = Run(path, asked.model_copy(update=cut))
        run.write_manifest()
        return run
    run = Run.open(path)
    for what, key in _SAME.items():
        if key(run.manifest) != key(asked):
            detail = f": {what_differs(run.manifest.model, asked.model)}" if what == "model" else ""
            raise UserError(
                f"expected the {what} of the run in {path} ({_brief(key(run.manifest))}), got another "
                f"({_brief(key(asked))}){detail}; give another --out"
            )
    if isinstance(batch_size, int) and batch_size != run.manifest.batch_size:
        raise UserError(f"expected the batch size of the run in {path} ({run.manifest.batch_size}), got {batch_size}")
    if asked.device not in run.manifest.device:
        return run.updated(device=f"{run.manifest.device}, then {asked.device}")
    return run


def check_asked_size(batch_size: int | str) -> None:
    """Raises UserError for what --batch-size does not take."""
    if batch_size != "auto":
        check_batch_size(batch_size, "--batch-size auto or a whole number")


@contextmanager
def alone_in(path: Path) -> Iterator[None]:
    """Holds a directory in which a run can begin or go on for this caller alone. Raises UserError."""
    check_place(path)
    with locked(path):
        yield


def check_place(path: Path) -> None:
    """Raises UserError where a run cannot begin or go on in a directory, since it holds other things. What a killed
    audit left before its manifest was written is none."""
    try:
        str(path).encode()
    except UnicodeEncodeError as error:
        raise UserError(f"expected --out with a name in UTF-8, got {path}") from error
    if (path / NAME).exists() or not path.exists():
        return
    if not path.is_dir() or any(p.name != LOCK and not is_leftover(p) for p in path.iterdir()):
        raise UserError(f"expected a new directory or an earlier run for --out, got {path}, which holds other things")


def what_differs(known: ModelRecord, found: ModelRecord) -> str:
    """Where two models of different fingerprints differ, in words."""
    if known.weights is None:
        return "the run is of a version whose fingerprints covered the weights alone, audit the model again"
    if known.weights != found.weights:
        return "its weights or its normalisation differ"
    return "its weights are the same, what computes with them (code, graph, configuration or versions of it) differs"


def model_record(classifier: Classifier) -> ModelRecord:
    """A model as a manifest has it."""
    origin = asdict(classifier.origin) if classifier.origin else {}
    # Where in its file the weights lay is no part of what was audited.
    origin.pop("taken", None)
    origin.pop("notes", None)
    return ModelRecord(
        name=classifier.name,
        fingerprint=classifier.fingerprint,
        weights=classifier.weights,
        feature_layer=_feature_layer(classifier),
        num_classes=classifier.num_classes,
        input_shape=classifier.input_shape,
        **origin,
    )


def _kept(evidence: str) -> ImagesKept:
    kinds: dict[str, ImagesKept] = {kind: kind for kind in get_args(ImagesKept)}
    if evidence not in kinds:
        raise UserError(f"expected --evidence {', '.join(kinds)}, got '{evidence}'")
    return kinds[evidence]


def _feature_layer(classifier: Classifier) -> str | None:
    """Its name, and which call of several it is."""
    try:
        found = classifier.feature_layer()
    except UnsupportedError:
        return None
    name = found.name.removeprefix("network.")
    return f"{name}, call {found.call + 1}" if found.call else name


def _architecture(model: ModelRecord) -> str | None:
    """As it was named, of a Python file without the folder: it may be moved, its code is in the fingerprint."""
    parts = user_code.file_and_name(model.arch or "")
    return f"{Path(parts[0]).name}:{parts[1]}" if parts else model.arch


def _brief(value: Any) -> str:
    text = value.name if isinstance(value, ProtocolRecord) else str(value)
    return f"{text[:16]}…" if len(text) > 17 else text
