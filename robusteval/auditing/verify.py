"""Verification: every claim of a run is checked again, by the model and against the evidence, or named as unchecked."""

from __future__ import annotations

from collections.abc import Collection, Generator, Iterator
from pathlib import Path
from typing import Any

from robusteval.auditing.plan import plan
from robusteval.auditing.protocol import Protocol, parse_protocol
from robusteval.auditing.request import model_record, what_differs
from robusteval.auditing.stages.base import Stage
from robusteval.auditing.verification import claims
from robusteval.auditing.verification.attacks import SAMPLED
from robusteval.auditing.verification.files import check_files
from robusteval.auditing.verification.finding import Finding, contained, unknown, wrong
from robusteval.auditing.verification.kept import RunImages, run_images
from robusteval.auditing.verification.stages import check_stages
from robusteval.auditing.verification.tables import check_parts, check_tables
from robusteval.auditing.verification.unknown import not_knowable
from robusteval.auditing.verification.within import NONE_THERE
from robusteval.core import user_code
from robusteval.core.errors import UserError, first_line
from robusteval.core.images import Images
from robusteval.core.progress import Progress, Silent
from robusteval.core.user_code import NotPermittedError
from robusteval.models.checkpoints import open_checkpoint
from robusteval.models.classifier import Classifier
from robusteval.results.manifest import NAME, Manifest, ModelRecord
from robusteval.results.run import Run

_LEFT = "stages: everything that the model could compute again, until what is wrong above is mended"


def verify(
    run: Run,
    classifier: Classifier | None = None,
    progress: Progress | None = None,
    recompute: bool = True,
    trusted: Collection[Path] = (),
    *,
    arch: str | None = None,
    data: Images | None = None,
    attacks: int | None = SAMPLED,
    sample: int | None = None,
) -> Iterator[str]:
    """Yield one line for each claim that does not hold, naming the file, the row or the key of the manifest; nothing
    where every claim that was checked holds. Arguments and errors as in `examine`; what `examine` calls blocked is
    raised as a UserError, when everything else was looked at."""
    blocked = ""
    for finding in examine(
        run, classifier, progress, recompute, trusted, arch=arch, data=data, attacks=attacks, sample=sample
    ):
        if finding.kind == "wrong":
            yield finding.line
        elif finding.kind == "blocked":
            blocked = blocked or finding.line
    if blocked:
        raise UserError(blocked)


def examine(
    run: Run,
    classifier: Classifier | None = None,
    progress: Progress | None = None,
    recompute: bool = True,
    trusted: Collection[Path] = (),
    *,
    arch: str | None = None,
    data: Images | None = None,
    attacks: int | None = SAMPLED,
    sample: int | None = None,
) -> Iterator[Finding]:
    """Everything that a verification of a finished run finds, checks and leaves unchecked. Nothing is written.

    Checked: the files are those of the planned shards with the checksums of the manifest; the tables follow from the
    parts, and the bounds from the tables; the manifest's claims of its protocol, stages, model and images; each
    prediction, margin and witness, by the model; what certificates learn from the set, each radius, statistic and
    measurement, computed again from the images; why a stage could not run; and attacks, run again on `attacks` images
    drawn at random (None for all); with `sample`, all of this of the shards of so many images drawn at random alone,
    and of what is measured on the whole set. The model is opened from the manifest's path unless it is given. Without
    `recompute`, only predictions and witnesses are held against the model. `data` is the data set that the images are
    said to be of. `trusted` are the Python files of the user's own methods and networks that may be run, `arch`
    (FILE.py:FUNCTION) the user's own word for the network: what a manifest names is no permission, and what needs it
    is blocked, as is everything that needs a model that cannot be opened or a method that is not here in that version.
    Raises UserError for an unfinished run.
    """
    if run.manifest.finished is None:
        raise UserError(f"expected a finished run in {run.path}, got an unfinished one; its audit continues it")
    yield from (unknown(line) for line in not_knowable(run.manifest, data is not None))
    yield from contained("manifest.json, stages", claims.check_ends(run))
    planned = yield from contained("manifest.json, protocol", _check_plan(run.manifest, trusted))
    stages, blocked = planned or (None, "")
    yield from contained("files", check_files(run))
    images = yield from contained("parts, tables and images", _check_evidence(run, data))
    if images is not None and images.there.shape != run.manifest.model.input_shape:
        yield unknown(_LEFT)
        return
    try:
        classifier = classifier or open_model(run, trusted=trusted, arch=arch)
    except UserError as error:
        blocked = blocked or str(error)
    except Exception as error:  # a network that others wrote, in a shape that others named
        blocked = blocked or f"expected the model {run.manifest.model.path} to be opened, got: {first_line(error)}"
    if blocked or classifier is None:
        yield Finding("blocked", blocked)
        return
    if classifier.fingerprint != run.manifest.model.fingerprint:
        differs = what_differs(run.manifest.model, model_record(classifier))
        yield wrong(f"the model {classifier.name} has another fingerprint than the one audited: {differs}")
        return
    yield from contained("manifest.json, model", claims.check_model(run.manifest, classifier))
    sources = [_source(record, trusted) for record in run.manifest.sources]
    yield from contained("manifest.json, sources", claims.check_source_models(run.manifest, sources))
    if images is None or stages is None or not claims.same_stages(run.manifest, stages):
        yield unknown(_LEFT)
        return
    if not len(images.there):
        yield unknown(f"stages, on all {len(images.ids):,} images: what the model could compute again; {NONE_THERE}")
        return
    again = check_stages(
        run,
        stages,
        classifier,
        sources,
        images,
        progress or Silent(),
        everything=recompute,
        attacks=attacks,
        sample=sample,
    )
    yield from contained("stages", again)


def _check_plan(
    manifest: Manifest, trusted: Collection[Path]
) -> Generator[Finding, None, tuple[tuple[Stage, ...] | None, str]]:
    """The protocol and the stages that it asks for; with them, what blocks that, if anything does."""
    try:
        protocol = _protocol(manifest, trusted)
        stages = plan(protocol, manifest.sources)
        yield from claims.check_protocol(manifest, protocol, stages)
    except UserError as error:
        if isinstance(error, NotPermittedError) or any("origin" in entry for entry in _entries(manifest)):
            return None, str(error)
        yield wrong(f"manifest.json, protocol: {error}")
        return None, ""
    return stages, ""


def examine_files(run: Run) -> Iterator[Finding]:
    """What needs neither the model nor its methods: files against checksums, parts against the manifest, tables against
    parts. Nothing is written."""
    yield from check_files(run)
    yield from _check_evidence(run, None)


def _check_evidence(run: Run, data: Images | None) -> Generator[Finding, None, RunImages | None]:
    """The parts, the tables and the images, without the model. The images, where all parts are what they can be."""
    sound = True
    for finding in check_parts(run):
        sound = sound and finding.kind != "wrong"
        yield finding
    if not sound:
        yield unknown("tables, and the images against the manifest, until what is wrong with the parts is mended")
        return None
    try:
        images = run_images(run, data)
        yield from claims.check_images(run.manifest, images)
        if data is not None:
            yield from claims.check_source(run.manifest, images, data)
        yield from check_tables(run)
    except UserError as error:
        yield wrong(str(error))
        return None
    return images


def unchecked(run: Run) -> tuple[str, ...]:
    """What no verification of a run can know, one line for each kind of claim."""
    return tuple(not_knowable(run.manifest))


def open_model(
    run: Run, checkpoint: str | None = None, trusted: Collection[Path] = (), arch: str | None = None
) -> Classifier:
    """The audited model, from the manifest's path or from another file that holds the same weights; `arch`, the user's
    own word, names the network instead of the manifest. Raises NotPermittedError where the network is built by a Python
    file that is neither `trusted` nor that of `arch`: a manifest is data and runs nothing."""
    return _opened(run.manifest.model, checkpoint, trusted, arch)


def _opened(
    model: ModelRecord, checkpoint: str | None, trusted: Collection[Path], arch: str | None = None
) -> Classifier:
    path = checkpoint or model.path
    if path is None:
        raise UserError("expected the model to be given, since that of the run came from no file")
    if arch is None and (parts := user_code.file_and_name(model.arch or "")):
        file, function = parts
        arch = f"{user_code.permitted(file, trusted, f'the network {function}')[0]}:{function}"
    return open_checkpoint(
        path,
        arch or model.arch,
        input_shape=model.input_shape,
        mean=model.mean,
        std=model.std,
        binary=model.binary,
        trusted=trusted,
    )


def _source(record: ModelRecord, trusted: Collection[Path]) -> Classifier | str:
    """A model that transfer attacks started from, or why it is not opened."""
    try:
        found = _opened(record, None, trusted)
    except UserError as error:
        return str(error)
    except Exception as error:
        return f"expected the model {record.path} to be opened, got: {first_line(error)}"
    return found if found.fingerprint == record.fingerprint else f"{record.path} holds another model now"


def _protocol(manifest: Manifest, trusted: Collection[Path]) -> Protocol:
    return parse_protocol(manifest.protocol.model_dump(mode="json", exclude_none=True), NAME, trusted)


def _entries(manifest: Manifest) -> Iterator[dict[str, Any]]:
    protocol = manifest.protocol
    yield from (*protocol.attacks, *protocol.certificates, *protocol.metrics)
