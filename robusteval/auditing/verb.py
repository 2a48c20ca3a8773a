"""`robusteval.audit`: a whole audit of whatever the caller has in hands, a network and arrays or files."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

from torch import Tensor, nn

from robusteval.auditing.protocol import Protocol
from robusteval.auditing.session import run_audit
from robusteval.auditing.split import asked_workers
from robusteval.auditing.working import working
from robusteval.core.errors import UserError
from robusteval.core.images import Images
from robusteval.core.progress import Progress, Silent
from robusteval.core.reading import AS_IT_IS, Reading
from robusteval.data.choice import first_or_drawn, read_chosen
from robusteval.data.classes import Classes, in_classes
from robusteval.models.checkpoints import open_checkpoint
from robusteval.models.classifier import Classifier
from robusteval.models.making import make_classifier
from robusteval.models.plain import as_images
from robusteval.results.run import Run

Model = nn.Module | Classifier | str | Path
Data = tuple[Tensor, Tensor] | Images | str | Path


def audit(
    model: Model,
    data: Data,
    protocol: str | Protocol = "quick",
    out: str | Path = "run",
    *,
    name: str = "model",
    arch: str | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    sources: Sequence[Model] = (),
    limit: int | None = None,
    classes: Classes | None = None,
    sample: int | None = None,
    seed: int = 0,
    device: str = "auto",
    dtype: str = "float32",
    batch_size: int | str = "auto",
    workers: int | str | None = None,
    engine: str = "local",
    address: str | None = None,
    evidence: str = "all",
    progress: Progress | None = None,
    trust: Collection[str | Path] = (),
    reading: Reading = AS_IT_IS,
) -> Run:
    """Run a protocol on a model and images, and leave tables and evidence in the directory `out`, or at that URL.

    model: a network, which is copied and stays as it is (`name` is what reports call it); a Classifier; or the path
    of a checkpoint, opened as the architecture `arch`. mean, std: the normalisation of a network or a checkpoint, one
    value a channel. data: pixels (N, C, H, W) in [0, 1] with labels (N,); Images; or a data set as for `--data`.
    classes: which label each class of the data has, as for `--classes`, or a list of names in the order of the model.
    limit: the first so many images; sample: so many drawn without replacement by `seed`, instead, or True for as many
    as the limit. reading: in which size, from which columns and which split a data set is read. sources: models to
    transfer attacks from. workers: processes that share the work on a CPU ("auto": as
    many as are fastest), spawned, so that a script of its own stands
    below `if __name__ == "__main__":`. engine: "ray" computes on a Ray cluster, that at `address` or one on this
    machine for this audit, with so many workers or as many as it has room for. trust: checkpoints that are programs
    (torch.export, TorchScript) and may run what they hold. The rest as in run_audit. Raises UserError in one line.
    """
    limit, sample = first_or_drawn(limit, sample)
    images = _images(data, limit, sample, seed, classes, reading)

    def opened(given: Model, title: str) -> Classifier:
        if isinstance(given, Classifier):
            return given
        if isinstance(given, nn.Module):
            return make_classifier(title, given, images.shape, _values(mean), _values(std))
        if not isinstance(given, str | Path):
            found = type(given).__name__
            raise UserError(f"expected a torch.nn.Module, a Classifier or the path of a checkpoint, got {found}")
        return open_checkpoint(given, arch, input_shape=images.shape, mean=mean, std=std, trusted=trust)

    audited, others = opened(model, name), [opened(source, f"source-{i + 1}") for i, source in enumerate(sources)]
    told = (progress or Silent()).warn
    workers = asked_workers(workers, audited, told, engine=engine, device=device, dtype=dtype)
    with working(workers, device, told, engine=engine, address=address) as computing:
        return run_audit(
            audited,
            images,
            protocol,
            out,
            sources=others,
            seed=seed,
            device=device,
            dtype=dtype,
            batch_size=batch_size,
            evidence=evidence,
            progress=progress,
            engine=computing,
            limit=limit,
            sample=sample,
        )


def _images(
    data: Data, limit: int | None, sample: int | None, seed: int, classes: Classes | None, reading: Reading
) -> Images:
    if isinstance(data, str | Path):
        return read_chosen(str(data), limit, sample, seed, classes=classes, reading=reading)
    if reading.asked:
        raise UserError(f"expected a data set as for --data to be read with {reading}, got {type(data).__name__}")
    if isinstance(data, tuple) and len(data) == 2:
        images = as_images(*data, source="arrays given in Python")
    elif isinstance(data, Images):
        images = data
    else:
        found = f"{len(data)} of them" if isinstance(data, tuple) else type(data).__name__
        raise UserError(f"expected (pixels, labels), Images or a data set as for --data, got {found}")
    images = images if classes is None else in_classes(images.checked(), classes, "classes=")
    if sample is not None:
        return images.sample(sample, seed)
    return images if limit is None else images.first(limit)


def _values(numbers: Sequence[float] | None) -> tuple[float, ...] | None:
    return None if numbers is None else tuple(map(float, numbers))
