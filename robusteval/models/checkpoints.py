"""A checkpoint file -> Classifier: strict, and without executing what the file holds unless the user trusts it.

Safe means: safetensors, or a pickle read as data. Programs of torch.export and TorchScript run what they hold.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import nn

from robusteval.core.errors import LONGEST, UserError, first_line
from robusteval.core.limits import FILE_BYTES, check_file
from robusteval.files.contents import described, looks_like_safetensors, program_in
from robusteval.files.foreign_models import nearest_model
from robusteval.files.pickled_tensors import tensor_of
from robusteval.models.architectures import ARCHITECTURES, build_network
from robusteval.models.card import read_card
from robusteval.models.casting import check_cast
from robusteval.models.classifier import CheckpointOrigin, Classifier
from robusteval.models.formats.programs import open_program
from robusteval.models.formats.state import find_weights
from robusteval.models.formats.weights import read_safetensors, read_torch
from robusteval.models.libraries import LIBRARIES, classes_of, library_network, of_library
from robusteval.models.libraries.preparation import LibraryNetwork, resizing, said
from robusteval.models.libraries.transformers_folder import FOLDER_PREFIX, WEIGHTS, open_folder
from robusteval.models.making import own_network
from robusteval.models.onnx.network import Onnx, open_onnx
from robusteval.models.zoo import located

SUFFIXES = (".safetensors", ".pt", ".pth", ".bin", ".ckpt", ".tar", ".ts", ".pt2", ".onnx")


def open_checkpoint(
    path: str | Path,
    arch: str | None = None,
    *,
    input_shape: tuple[int, int, int],
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    binary: bool = False,
    trusted: Collection[str | Path] = (),
) -> Classifier:
    """A classifier from a checkpoint.

    path: weights (.safetensors, .pt, .pth, .bin, .ckpt, .pth.tar), for which `arch` says which network they fill; an
    ONNX graph (.onnx, with the extra `onnx`), which is data and needs no `arch`; a whole program (torch.export with a
    dynamic batch dimension, TorchScript), which needs none either but can run code and write files, so that `trusted`
    has to name that very file; zoo:NAME; or hf:FOLDER, a folder of transformers. Weights below a wrapper or behind a
    prefix are taken where they fit the network's own keys; `origin.taken` says how.
    arch: a known name, PACKAGE:NAME (timm, torchvision, robustbench, hf:FOLDER), or FILE.py:FUNCTION.
    input_shape: (C, H, W) of the images, in [0, 1]; mean, std: the normalisation, one value a channel. What is not
    given is read from the model card beside the weights, or else from the package's configuration of the model. A card
    that names a Python file is no permission to run it: `arch` has to.
    Raises UserError in one line for anything that does not fit.
    """
    path, arch = _named(path, arch)
    card = read_card(path)
    given = mean is not None or std is not None
    if card is not None:
        arch = arch or _known_architecture(path, card.arch)
        mean, std = (mean, std) if given else (card.mean, card.std)
    opened = _opened(path, arch, trusted, input_shape)
    network, notes, names = opened.network, opened.notes, tuple[str, ...]()
    if opened.library is not None and arch is not None:
        own = opened.library.preparation
        normalised, names = not given and card is None, own.class_names
        mean, std = (own.mean, own.std) if normalised else (mean, std)
        network = resizing(opened.library, input_shape[1:])
        notes = tuple(filter(None, [said(arch, opened.library, input_shape[1:], normalised)]))
    _check_finite(path, network)
    means, stds = (None if v is None else tuple(float(x) for x in v) for v in (mean, std))
    classifier = own_network(_called(path, arch), network, input_shape, means, stds, binary)
    origin = CheckpointOrigin(str(path.resolve()), arch, means, stds, None, None, names, binary, opened.taken, notes)
    if card is not None:
        seconds, names = card.seconds, card.class_names
        origin = replace(origin, training=card.trained.title, training_seconds=seconds, class_names=names)
    return replace(classifier, origin=origin)


@dataclass(frozen=True)
class _Opened:
    """A network with its weights; `library`: what another package says of it."""

    network: nn.Module
    taken: str = ""
    notes: tuple[str, ...] = ()
    library: LibraryNetwork | None = None


def _named(path: str | Path, arch: str | None) -> tuple[Path, str | None]:
    """The file of a checkpoint that is named as zoo:NAME or hf:FOLDER, and the architecture that the name gives it."""
    if str(path).startswith(FOLDER_PREFIX):
        folder = Path(str(path).removeprefix(FOLDER_PREFIX)).resolve()
        return folder / WEIGHTS, f"{FOLDER_PREFIX}{folder}"
    return located(path), arch


def _called(path: Path, arch: str | None) -> str:
    """The name of a classifier: that of its file, or of the folder of transformers, whose files all have one name."""
    in_folder = arch is not None and arch.startswith(FOLDER_PREFIX) and path.name == WEIGHTS
    return path.resolve().parent.name if in_folder else path.stem.removesuffix(".pth")


def _opened(path: Path, arch: str | None, trusted: Collection[str | Path], shape: tuple[int, int, int]) -> _Opened:
    """What a checkpoint is: weights of a network, or a graph or a program by itself."""
    if (
        arch is not None
        and arch.startswith(FOLDER_PREFIX)
        and path.resolve() == Path(arch[len(FOLDER_PREFIX) :]).resolve() / WEIGHTS
    ):
        whole = open_folder(path.parent)
        return _Opened(whole.network, library=whole)
    content = _read(path, trusted, shape)
    if isinstance(content, Onnx):
        return _Opened(content.network, notes=content.notes)
    return _Opened(content) if isinstance(content, nn.Module) else _filled(path, arch, content, shape[0])


def _known_architecture(path: Path, arch: str) -> str:
    if arch not in ARCHITECTURES and not of_library(arch):
        raise UserError(
            f"expected --arch for the weights in {path}, got none; their card names {arch}, which is run only if you "
            f"name it: --arch {arch}"
        )
    return arch


def _read(path: Path, trusted: Collection[str | Path], input_shape: tuple[int, int, int]) -> Any:
    """The network of an ONNX graph or of a program, or what a file of weights holds; by its content, not its name."""
    if path.suffix.lower() not in SUFFIXES:
        raise UserError(f"expected a checkpoint ending in {', '.join(SUFFIXES)}, got {path}{nearest_model(path)}")
    if not os.path.lexists(path):
        raise UserError(f"expected a checkpoint file, got {path}, which does not exist")
    if not check_file(path, FILE_BYTES, "a checkpoint file"):
        raise UserError(f"expected a checkpoint in {path}, got {described(path)}")
    try:
        if path.suffix.lower() == ".onnx":
            return open_onnx(path, input_shape)
        if (program := program_in(path)) is not None:
            return open_program(path, program, trusted)
        if path.suffix.lower() == ".safetensors" or looks_like_safetensors(path):
            return read_safetensors(path)
        return read_torch(path)
    except OSError as error:
        raise UserError(f"expected a checkpoint in {path}, got: {error.strerror or first_line(error)}") from error


def _filled(path: Path, arch: str | None, content: Any, channels: int) -> _Opened:
    """The network with its weights, and what was done to find them among what the file holds. One of another package
    is built for as many classes as the weights have."""
    if arch is None:
        raise UserError(
            f"expected --arch for the weights in {path}, got none; "
            f"known: {', '.join(ARCHITECTURES)}, PACKAGE:NAME ({', '.join(LIBRARIES)}), or FILE.py:FUNCTION"
        )
    library = library_network(arch, channels) if of_library(arch) else None
    network = library.network if library else build_network(arch)
    own = network.state_dict()
    found_weights = find_weights(path, content, own)
    if library is not None and (classes := classes_of(found_weights.weights, own)) is not None:
        library = library_network(arch, channels, classes)
        network, own = library.network, library.network.state_dict()
    state: dict[str, Any] = dict(found_weights.weights)
    problems = {
        "missing": sorted(own.keys() - state.keys()),
        "unexpected": sorted(state.keys() - own.keys()),
        "of another shape": [
            f"{key} {tuple(state[key].shape)} for {tuple(own[key].shape)}"
            for key in sorted(own.keys() & state.keys())
            if state[key].shape not in (None, own[key].shape)
        ],
    }
    found = [f"{what}: {_few(keys)}" for what, keys in problems.items() if keys]
    if found:
        hint = f" ({found_weights.hint})" if found_weights.hint else ""
        if library is not None and problems["of another shape"]:
            hint += "; a variant of it, such as for other sizes of images: --arch FILE.py:FUNCTION, which builds it"
        raise UserError(f"expected the weights of {arch} in {path}, got keys {'; '.join(found)}{hint}")
    state = {key: tensor_of(path, key, value) for key, value in state.items()}
    for key, value in state.items():
        try:
            check_cast(path, key, value, own[key].dtype)
        except (RuntimeError, NotImplementedError, TypeError) as error:
            raise UserError(f"expected numbers for '{key}' in {path}, got: {first_line(error)}") from error
    try:
        network.load_state_dict(state)
    except Exception as error:  # a user's own module can load its weights as it likes
        raise UserError(f"expected the weights of {arch} in {path}, got an error: {first_line(error)}") from error
    return _Opened(network, found_weights.note, library=library)


def _few(keys: list[str], most: int = 5) -> str:
    keys = [key if len(key) <= LONGEST else f"{key[: LONGEST - 3]}..." for key in keys]
    more = f" and {len(keys) - most} more" if len(keys) > most else ""
    return ", ".join(keys[:most]) + more


def _check_finite(path: Path, network: nn.Module) -> None:
    for key, value in network.state_dict().items():
        if value.is_floating_point() and not value.isfinite().all():
            raise UserError(f"expected finite weights in {path}, got NaN or infinity in '{key}'")
