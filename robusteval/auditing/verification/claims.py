"""What a manifest claims of itself, its protocol, its model and its images, held against what they are."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import torch
from pydantic import BaseModel

from robusteval.auditing.protocol import Protocol, available_protocols, read_protocol
from robusteval.auditing.request import model_record
from robusteval.auditing.stages.base import Stage
from robusteval.auditing.verification.finding import Finding, claim, held_against, unknown, wrong
from robusteval.auditing.verification.kept import RunImages
from robusteval.core import user_code
from robusteval.core.images import Images, drawn_from
from robusteval.core.registry import Origin
from robusteval.models.classifier import Classifier
from robusteval.results.files import read_cost
from robusteval.results.manifest import Manifest, ModelRecord, ProtocolRecord
from robusteval.results.records import Cost, MethodRecord, StageRecord
from robusteval.results.run import Run
from robusteval.results.shards import planned_files

_ENDED = ("status", "reason", "cost", "batch_independent")
"""What the audit itself puts into the record of a stage."""
_CARD = ("training", "training_seconds", "class_names")
_ROUNDING = 1e-6


def check_ends(run: Run) -> Iterator[Finding]:
    """How the run and its stages ended, and that their costs are the sums of those of their parts."""
    manifest = run.manifest
    expected = "incomplete" if manifest.failed else "complete"
    if manifest.status != expected:
        yield claim("status", manifest.status, expected)
    for i, record in enumerate(manifest.stages):
        key = f"stages.{i} ({record.name})"
        if record.status == "pending":
            yield wrong(f"manifest.json, {key}.status: is pending in a run that has ended")
        if record.done and record.reason:
            yield claim(f"{key}.reason", record.reason, "nothing for a stage that is done")
        files = [run.path / p.path for p in planned_files(manifest, record) if p.table is not None]
        try:
            total = sum((read_cost(path) for path in files if path.is_file()), Cost())
        except (OSError, ValueError) as error:
            yield wrong(f"parts/{record.name}: expected readable costs in its parts, got: {str(error).splitlines()[0]}")
            continue
        for name in Cost.model_fields:
            stored, wanted = getattr(record.cost, name), getattr(total, name)
            if not math.isclose(stored, wanted, rel_tol=_ROUNDING, abs_tol=_ROUNDING):
                yield claim(f"{key}.cost.{name}", stored, f"{wanted}, the sum over its parts")
    yield held_against("costs of stages against the sums over their parts", 4 * len(manifest.stages))


def check_images(manifest: Manifest, found: RunImages) -> Iterator[Finding]:
    """The claims of the manifest about its images."""
    data, images, count = manifest.data, found.there, len(found.ids)
    if not found.whole:
        yield unknown(
            f"data.fingerprint, labels and pixels, on {count - len(images):,} of {count:,} images: they are not kept "
            f"(--evidence {manifest.images_kept}); --data reads them again"
        )
    elif images.fingerprint() != data.fingerprint:
        others = "" if found.kept is None else ", those of the data set"
        yield wrong(
            f"the images in witnesses/clean{others} or their labels are not those of the manifest's data.fingerprint"
        )
    if count != data.count:
        yield claim("data.count", data.count, count)
    for key, most in (("limit", data.limit), ("sample", data.sample)):
        if most is not None and (count > most or most < 1):
            yield claim(f"data.{key}", most, f"at least {count}, the images that there are")
    # An audit of a target leaves images out of the sample.
    if data.sample is not None and data.sample != count and manifest.protocol.target is None:
        yield claim("data.sample", data.sample, count)
    if data.class_names and len(data.class_names) != manifest.model.num_classes:
        yield claim("data.class_names", data.class_names, f"{manifest.model.num_classes}, one a class")
    for norm, own in manifest.protocol.own_budgets.items():
        if strange := set(own) - set(found.ids):
            key = f"protocol.own_budgets.{norm.value}"
            yield wrong(f"manifest.json, {key}: '{min(strange)}' is no image of the run")
    kept = str(images.dtype).removeprefix("torch.")
    if kept != manifest.dtype:
        yield claim("dtype", manifest.dtype, f"{kept}, as the images are kept")
    if images.shape != manifest.model.input_shape:
        yield claim("model.input_shape", manifest.model.input_shape, images.shape)
    yield held_against("images against the fingerprint, count, type and shape of the manifest", len(images))


def check_source(manifest: Manifest, found: RunImages, data: Images) -> Iterator[Finding]:
    """The images of a run against the data set `data` that they are said to be of: all of it, or those drawn again."""
    place, images = {image_id: i for i, image_id in enumerate(data.ids)}, found.there
    if not found.whole:
        there = frozenset(images.ids)
        yield from (wrong(_no_image("parts", i, data)) for i in found.ids if i not in there)
    for block in images.blocks():
        known = torch.tensor([image_id in place for image_id in block.ids])
        for image_id, there in zip(block.ids, known.tolist(), strict=True):
            if not there:
                yield wrong(_no_image("witnesses", image_id, data))
        own = block.select(known)
        theirs = data.select(torch.tensor([place[i] for i in own.ids], dtype=torch.int64)).to(own.device, own.dtype)
        yield from _differing(own, theirs.loaded(), data.source)
    named_so = manifest.data.sample is None or data.source.endswith(drawn_from("", manifest.seed))
    named = data.source if named_so else drawn_from(data.source, manifest.seed)
    if data.source and manifest.data.source != named:
        yield claim("data.source", manifest.data.source, named)
    if data.class_names and manifest.data.class_names != data.class_names:
        yield claim("data.class_names", manifest.data.class_names, data.class_names)
    yield held_against(f"images against {data.source}", len(images))


def _no_image(folder: str, image_id: str, data: Images) -> str:
    return f"{folder}/clean, image {image_id}: is no image of {data.source}"


def _differing(own: Images, theirs: Images, source: str) -> Iterator[Finding]:
    """The images of a run whose pixels or labels are not those of the same images in their data set."""
    same = (own.pixels == theirs.pixels).flatten(1).all(1)
    for image_id, pixels, label, wanted in zip(
        own.ids, same.tolist(), own.labels.tolist(), theirs.labels.tolist(), strict=True
    ):
        if not pixels:
            yield wrong(f"witnesses/clean, image {image_id}: its pixels are not those in {source}")
        elif label != wanted:
            yield wrong(f"parts/clean, image {image_id}: label is {label}, expected {wanted} of {source}")


def check_protocol(manifest: Manifest, protocol: Protocol, stages: Sequence[Stage]) -> Iterator[Finding]:
    """The protocol and its stages as the manifest has them, against what the methods' own classes make of them."""
    again = ProtocolRecord.model_validate(protocol.as_json())
    yield from _fields("protocol", manifest.protocol, again)
    name = manifest.protocol.name
    if name in available_protocols():
        known = ProtocolRecord.model_validate(read_protocol(name).as_json())
        yield from _fields("protocol", manifest.protocol, known, f", that of the protocol {name} of robusteval")
    else:
        yield unknown(f"protocol.name, protocol.description: '{name}' is none of robusteval's own protocols")
    used = {(e.method.norm, budget) for e in protocol.attacks for budget in e.budgets}
    for norm, budgets in protocol.budgets.items():
        for budget in budgets:
            if (norm, budget) not in used:
                yield unknown(f"protocol.budgets.{norm.value}: {budget} is used by none of its attacks")
    each = {e.method.norm for e in protocol.attacks if e.method.fixed_budget and not e.budgets}
    for norm in protocol.own_budgets:
        if norm not in each:
            yield unknown(f"protocol.own_budgets.{norm.value}: used by none of its attacks")
    planned = [stage.record() for stage in stages]
    if not same_stages(manifest, stages):
        names = ", ".join(r.name for r in planned)
        yield claim("stages", ", ".join(s.name for s in manifest.stages), f"{names}, by the protocol")
        return
    for i, (record, wanted) in enumerate(zip(manifest.stages, planned, strict=True)):
        yield from _stage(f"stages.{i}", record, wanted)
    yield held_against("protocol and stages against the classes of the methods", sum(_leaves(r) for r in planned))


def same_stages(manifest: Manifest, stages: Sequence[Stage]) -> bool:
    """Whether the manifest has the stages of its protocol, of the same kinds."""
    planned = [stage.record() for stage in stages]
    return [(s.name, type(s)) for s in manifest.stages] == [(r.name, type(r)) for r in planned]


def check_independence(manifest: Manifest, stages: Sequence[Stage], lacking: str) -> Iterator[Finding]:
    """Whether the manifest marks the stages whose results depend on the batch; `lacking` is why the model's outputs are
    no function of the image alone, empty where they are."""
    for i, (record, stage) in enumerate(zip(manifest.stages, stages, strict=True)):
        wanted = stage.record()
        if isinstance(record, MethodRecord) and isinstance(wanted, MethodRecord):
            independent = wanted.batch_independent and not lacking
            if record.batch_independent != independent:
                yield claim(f"stages.{i} ({record.name}).batch_independent", record.batch_independent, independent)


def check_model(manifest: Manifest, classifier: Classifier) -> Iterator[Finding]:
    """The claims about the model, whose fingerprint is that of the manifest."""
    stored, found = manifest.model, model_record(classifier)
    by_path = found.path == stored.path
    for key in ModelRecord.model_fields:
        one, other = getattr(stored, key), getattr(found, key)
        if one == other or (key == "arch" and _file_name(one) == _file_name(other)):
            continue
        if key in ("name", "path") and not by_path:
            yield unknown(f"model.{key}: {one}; the model was opened as {other}")
        elif key in (*_CARD, "arch") and other in (None, ()):
            yield unknown(f"model.{key}: {one}; there is no card beside the model that was opened")
        else:
            yield claim(f"model.{key}", one, other)
    names = classifier.origin.class_names if classifier.origin else ()
    if len(names) == classifier.num_classes and not manifest.data.class_names:
        yield claim("data.class_names", manifest.data.class_names, names)
    yield held_against("the model against its record", len(ModelRecord.model_fields))


def check_source_models(manifest: Manifest, opened: Iterable[Classifier | str]) -> Iterator[Finding]:
    """The models that transfer attacks start from: opened, or why not."""
    for i, (stored, found) in enumerate(zip(manifest.sources, opened, strict=True)):
        if stored.input_shape != manifest.model.input_shape:
            yield claim(f"sources.{i}.input_shape", stored.input_shape, manifest.model.input_shape)
        if isinstance(found, str):
            fields = ", ".join(f"sources.{i}.{key}" for key in ModelRecord.model_fields if key != "name")
            yield unknown(f"{fields}: {found}")
        else:
            yield from _fields(f"sources.{i}", stored, model_record(found))


def _stage(key: str, stored: StageRecord, wanted: StageRecord) -> Iterator[Finding]:
    key = f"{key} ({stored.name})"
    if type(stored) is not type(wanted):
        yield claim(f"{key}.kind", getattr(stored, "kind", ""), getattr(wanted, "kind", ""))
    else:
        yield from _fields(key, stored, wanted, skip=_ENDED)


def _fields(
    key: str, stored: BaseModel, wanted: BaseModel, of: str = "", skip: Sequence[str] = ()
) -> Iterator[Finding]:
    for name in type(wanted).model_fields:
        one, other = getattr(stored, name), getattr(wanted, name)
        if name not in skip and not _same(one, other):
            yield claim(f"{key}.{name}", one, other, of)


def _same(one: Any, other: Any) -> bool:
    """Equal; of a method in a user's file, which may have been moved, the file's content and the class."""
    if isinstance(one, str) and isinstance(other, str):
        return _file_name(one) == _file_name(other)
    if isinstance(one, Origin) and isinstance(other, Origin):
        pairs = zip(*((_file_name(o.reference), o.package, o.version) for o in (one, other)), strict=True)
        return all(a == b for a, b in pairs)
    return bool(one == other)


def _file_name(reference: str | None) -> str | None:
    """A reference without the folder of its Python file, if it is one."""
    parts = user_code.file_and_name(reference or "")
    return f"{parts[0].replace(chr(92), '/').rpartition('/')[2]}:{parts[1]}" if parts else reference


def _leaves(record: StageRecord) -> int:
    return len(type(record).model_fields)
