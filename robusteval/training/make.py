"""From a recipe, an architecture and images to a weights file and its card."""

from __future__ import annotations

import hashlib
import json
import shlex
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from robusteval.core.device import choose_device, describe
from robusteval.core.errors import UserError
from robusteval.core.images import Images
from robusteval.models.architectures import build_network
from robusteval.models.card import Accuracies, ModelCard, TrainedBy, card_path, file_sha256, read_card
from robusteval.models.making import Preprocessed, own_network
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
        return known
    on = choose_device(device)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.training.seed)
        bare = build_network(arch)
    mean, std = _normalisation(images.pixels) if recipe.training.normalise else (None, None)
    classes = own_network(out.stem, _copied(bare, arch), images.shape, mean, std).num_classes
    _check_labels(images, classes, arch)
    zeros, ones = (0.0,) * images.shape[0], (1.0,) * images.shape[0]
    network = Preprocessed(bare, mean or zeros, std or ones).to(on)
    key = hashlib.sha256(f"{arch} {trained.model_dump_json()}".encode()).hexdigest()
    saved = SavedTraining(out.with_suffix(".unfinished"), key)
    history = train(network, images, recipe.defense, recipe.training, saved=saved, tell=tell)
    weights = {name: value.detach().cpu().contiguous() for name, value in bare.state_dict().items()}
    out.parent.mkdir(parents=True, exist_ok=True)
    save_file(weights, out, {"arch": arch, "torch": torch.__version__, "command": shlex.join(command)})
    best = min(range(len(history)), key=lambda i: history[i].validation_loss) if recipe.training.validation else None
    card = ModelCard(
        name=out.stem,
        weights=file_sha256(out),
        arch=arch,
        input_shape=images.shape,
        num_classes=classes,
        class_names=images.class_names,
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
        command=shlex.join(command),
    )
    card_path(out).write_text(card.model_dump_json(indent=2) + "\n")
    out.with_suffix(".md").write_text(card_markdown(card))
    saved.remove()
    return card


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
    card = read_card(out)
    if card is None or (card.arch, card.trained) != (arch, trained):
        raise UserError(f"expected --out as a new file, got {out}, which holds another model")
    return card


def _copied(network: nn.Module, arch: str) -> nn.Module:
    """Another network of the same weights: one that is checked is frozen."""
    other = build_network(arch)
    other.load_state_dict(network.state_dict())
    return other


def _normalisation(pixels: Tensor) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each channel, to four digits."""
    channels = pixels.double().transpose(0, 1).flatten(1)
    mean = tuple(round(v, 4) for v in channels.mean(1).tolist())
    # A channel of one value is only shifted.
    std = tuple(round(v, 4) or 1.0 for v in channels.std(1, correction=0).tolist())
    return mean, std


def _check_labels(images: Images, classes: int, arch: str) -> None:
    low, high = int(images.labels.min()), int(images.labels.max())
    if low < 0 or high >= classes:
        raise UserError(
            f"expected labels from 0 to {classes - 1} for {arch}, got {low} to {high}; a FILE.py:FUNCTION can build a "
            "network for other classes"
        )


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


def _accuracy(network: nn.Module, images: Images) -> float:
    device = next(network.parameters()).device
    with torch.no_grad():
        found = [network(part.to(device)).argmax(1).cpu() for part in images.pixels.split(100)]
    return float((torch.cat(found) == images.labels).double().mean())
