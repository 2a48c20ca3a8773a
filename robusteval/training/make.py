"""From a recipe, an architecture and images to a weights file and its card."""

from __future__ import annotations

import hashlib
import json
import shlex
import tempfile
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path

import torch
from safetensors.torch import save
from torch import Tensor, nn

from robusteval.core.device import choose_device, describe
from robusteval.core.errors import UserError
from robusteval.core.foreign import readable
from robusteval.core.images import Images
from robusteval.core.user_code import file_and_name, source_checksum
from robusteval.data.classes import by_name
from robusteval.models.architectures import build_network
from robusteval.models.card import Accuracies, ModelCard, TrainedBy, card_path, is_card, read_card
from robusteval.models.making import Preprocessed, make_classifier
from robusteval.models.plain import check_classes
from robusteval.results.atomic import atomically
from robusteval.training.loop import Epoch, Tick, train
from robusteval.training.markdown import card_markdown
from robusteval.training.recipe import Recipe
from robusteval.training.saved import SavedTraining


def make_model(
    recipe: Recipe,
    arch: str,
    images: Images,
    out: Path,
    *,
    test: Images | None = None,
    device: str = "auto",
    command: Sequence[str] = (),
    tell: Callable[[Tick], None] = lambda tick: None,
) -> ModelCard:
    """Train a network of `arch` and write `out` (.safetensors), its card as JSON and as Markdown beside it.

    Until then OUT.unfinished holds the training; the same call continues it. A finished one of the same recipe,
    architecture and images is left as it is, and its card returned. `test` images only measure the accuracy. Raises
    UserError where `out` holds anything else or the network does not suit the images.
    """
    if out.suffix != ".safetensors":
        raise UserError(f"expected --out as a .safetensors file, got {out}")
    trained = _record(recipe, images)
    if (known := _finished(out, arch, trained)) is not None:
        # Where the first command was killed at its very end.
        SavedTraining(_unfinished(out), "").remove()
        return known
    on = choose_device(device)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.training.seed)
        bare = build_network(arch)
    mean, std = _normalisation(images.pixels) if recipe.training.normalise else (None, None)
    classes = make_classifier(arch, bare, images.shape, mean, std).num_classes
    if test is not None and test.class_names and images.class_names:
        test = by_name(test, images.class_names, images.source)
    _check(bare, classes, arch, images, test)
    _check_folder(out)
    _check_beside(out)
    zeros, ones = (0.0,) * images.shape[0], (1.0,) * images.shape[0]
    network = Preprocessed(bare, mean or zeros, std or ones).to(on)
    file = file_and_name(arch)
    source = source_checksum(Path(file[0])) if file else ""
    key = hashlib.sha256(f"{arch} {source} {trained.model_dump_json()}".encode()).hexdigest()
    saved = SavedTraining(_unfinished(out), key)
    history = train(network, images, recipe.defense, recipe.training, saved=saved, tell=tell)
    # Copies: a safetensors file holds no weights that share their memory. One entry: several have no fixed order.
    weights = {k: v.detach().cpu().clone(memory_format=torch.contiguous_format) for k, v in bare.state_dict().items()}
    content = save(weights, {"arch": arch})
    best = min(range(len(history)), key=lambda i: history[i].validation_loss) if recipe.training.validation else None
    card = ModelCard(
        name=readable(out.stem),
        weights=hashlib.sha256(content).hexdigest(),
        arch=arch,
        input_shape=images.shape,
        num_classes=classes,
        class_names=_class_names(images),
        mean=mean,
        std=std,
        parameters=sum(p.numel() for p in bare.parameters()),
        trained=trained,
        accuracy=_measured(network, images, test, history, best),
        epochs=len(history),
        best_epoch=None if best is None else best + 1,
        seconds=round(sum(epoch.seconds for epoch in history), 1),
        device=describe(on),
        robusteval=version("robusteval"),
        torch=torch.__version__,
        command=readable(shlex.join(command)),
    )
    _write(out, content, card)
    saved.remove()
    return card


def _write(out: Path, weights: bytes, card: ModelCard) -> None:
    """The card, then the weights: whoever finds these finds their card."""
    files = {card_path(out): card.model_dump_json(indent=2) + "\n", out.with_suffix(".md"): card_markdown(card)}
    for path, content in ({p: text.encode() for p, text in files.items()} | {out: weights}).items():
        atomically(path, lambda temporary, content=content: temporary.write_bytes(content))  # type: ignore[misc]


def _unfinished(out: Path) -> Path:
    return out.with_suffix(".unfinished")


def _record(recipe: Recipe, images: Images) -> TrainedBy:
    return TrainedBy(
        defense=recipe.defense.name,
        title=recipe.title,
        package=f"{recipe.origin.package} {recipe.origin.version}",
        settings=json.loads(recipe.defense.model_dump_json()),
        training=json.loads(recipe.training.model_dump_json()),
        data=images.source,
        images=len(images),
        data_fingerprint=images.fingerprint(),
    )


def _finished(out: Path, arch: str, trained: TrainedBy) -> ModelCard | None:
    """The card of `out` where it is what would be trained; None where there is no such file."""
    if not out.exists():
        return None
    if not out.is_file():
        raise UserError(f"expected --out as a .safetensors file, got {out}, which is a folder")
    card = read_card(out)
    if card is None or (card.arch, card.trained) != (arch, trained):
        raise UserError(f"expected --out as a new file, got {out}, which holds another model")
    return card


def _normalisation(pixels: Tensor) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each channel, to four digits."""
    channels = pixels.double().transpose(0, 1).flatten(1)
    mean = tuple(round(v, 4) for v in channels.mean(1).tolist())
    # A channel of one value is only shifted.
    std = tuple(round(v, 4) or 1.0 for v in channels.std(1, correction=0).tolist())
    return mean, std


def _check(network: nn.Module, classes: int, arch: str, images: Images, test: Images | None) -> None:
    """Whether the network has something to train, and its classes and the test images suit the images."""
    if not any(p.requires_grad for p in network.parameters()):
        raise UserError(f"expected --arch with weights to train, got none in {arch}")
    _check_labels(images, classes, arch)
    if test is not None:
        if test.shape != images.shape:
            shapes = ["x".join(map(str, shape)) for shape in (images.shape, test.shape)]
            raise UserError(f"expected --test images of shape {shapes[0]}, got {shapes[1]} in {test.source}")
        _check_labels(test, classes, arch)


def _class_names(images: Images) -> tuple[str, ...]:
    """Those of the data; numbers, where these are known to be the names of its classes."""
    return images.class_names or tuple(map(str, range(images.class_count or 0)))


def _check_labels(images: Images, classes: int, arch: str) -> None:
    check_classes(f"{arch} (a FILE.py:FUNCTION can build a network for other classes)", classes, images)
    low, high = int(images.labels.min()), int(images.labels.max())
    if low < 0 or high >= classes:
        raise UserError(
            f"expected labels from 0 to {classes - 1} for {arch}, got {low} to {high} in {images.source}; a "
            "FILE.py:FUNCTION can build a network for other classes"
        )


def _check_folder(out: Path) -> None:
    """Before the training, not after it: whether its result can be written."""
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=out.parent):
            pass
    except OSError as error:
        raise UserError(f"expected --out in a folder that can be written, got {out}: {error.strerror}") from error


def _measured(
    network: nn.Module, images: Images, test: Images | None, history: Sequence[Epoch], best: int | None
) -> Accuracies:
    return Accuracies(
        training=_accuracy(network, images),
        validation=None if best is None else history[best].validation_accuracy,
        test=None if test is None else _accuracy(network, test),
        test_data=None if test is None else test.source,
        test_images=None if test is None else len(test),
    )


def _check_beside(out: Path) -> None:
    """Whether a card would take the place of a file that is none."""
    if is_card(card_path(out)) or _unfinished(out).exists():
        return
    for path in (card_path(out), out.with_suffix(".md")):
        if path.exists():
            raise UserError(f"expected --out with room for its card, got {path}, which is another file")


def _accuracy(network: nn.Module, images: Images) -> float:
    device = next(network.parameters()).device
    with torch.no_grad():
        found = [network(part.to(device)).argmax(1).cpu() for part in images.pixels.split(100)]
    return float((torch.cat(found) == images.labels).double().mean())
