"""A checkpoint file -> Classifier: strict, and without executing what the file holds unless the user trusts it.

Safe means: safetensors, torch.load(weights_only=True), or ONNX as data. Programs of torch.export and TorchScript run
what they hold.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import nn

from robusteval.core.errors import LONGEST, UserError, first_line
from robusteval.core.limits import FILE_BYTES, check_file
from robusteval.models.architectures import ARCHITECTURES, build_network
from robusteval.models.card import read_card
from robusteval.models.casting import check_cast
from robusteval.models.classifier import CheckpointOrigin, Classifier
from robusteval.models.formats.contents import described, looks_like_safetensors, program_in
from robusteval.models.formats.programs import open_program
from robusteval.models.formats.state import find_weights
from robusteval.models.formats.weights import read_safetensors, read_torch
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
    has to name that very file; or zoo:NAME. Weights below a wrapper or behind a prefix are taken where they fit the
    network's own keys; `origin.taken` says how.
    input_shape: (C, H, W) of the images, in [0, 1]; mean, std: the normalisation, one value a channel. What is not
    given is read from the model card beside the weights, if there is one. A card names known architectures only: one
    that is a file is run where `arch` names it.
    Raises UserError in one line for anything that does not fit.
    """
    path = located(path)
    content = _read(path, trusted, input_shape)
    card = read_card(path)
    if card is not None:
        arch = arch or _known_architecture(path, card.arch)
        mean, std = (card.mean, card.std) if mean is None and std is None else (mean, std)
    notes = content.notes if isinstance(content, Onnx) else ()
    whole = content.network if isinstance(content, Onnx) else content
    network, taken = (whole, "") if isinstance(whole, nn.Module) else _filled(path, arch, whole)
    _check_finite(path, network)
    means, stds = (None if v is None else tuple(float(x) for x in v) for v in (mean, std))
    classifier = own_network(path.stem.removesuffix(".pth"), network, input_shape, means, stds, binary)
    origin = CheckpointOrigin(str(path.resolve()), arch, means, stds, binary=binary, taken=taken, notes=notes)
    if card is not None:
        seconds, names = card.seconds, card.class_names
        origin = replace(origin, training=card.trained.title, training_seconds=seconds, class_names=names)
    return replace(classifier, origin=origin)


def _known_architecture(path: Path, arch: str) -> str:
    if arch not in ARCHITECTURES:
        raise UserError(
            f"expected --arch for the weights in {path}, got none; their card names {arch}, which is run only if you "
            f"name it: --arch {arch}"
        )
    return arch


def _read(path: Path, trusted: Collection[str | Path], input_shape: tuple[int, int, int]) -> Any:
    """The network of an ONNX graph or of a program, or what a file of weights holds; by its content, not its name."""
    if path.suffix.lower() not in SUFFIXES:
        raise UserError(f"expected a checkpoint ending in {', '.join(SUFFIXES)}, got {path}")
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


def _filled(path: Path, arch: str | None, content: Any) -> tuple[nn.Module, str]:
    """The network with its weights, and what was done to find them among what the file holds."""
    if arch is None:
        raise UserError(
            f"expected --arch for the weights in {path}, got none; "
            f"known: {', '.join(ARCHITECTURES)}, or FILE.py:FUNCTION"
        )
    network = build_network(arch)
    own = network.state_dict()
    found_weights = find_weights(path, content, own)
    state = found_weights.weights
    problems = {
        "missing": sorted(own.keys() - state.keys()),
        "unexpected": sorted(state.keys() - own.keys()),
        "of another shape": [
            f"{key} {tuple(state[key].shape)} for {tuple(own[key].shape)}"
            for key in sorted(own.keys() & state.keys())
            if state[key].shape != own[key].shape
        ],
    }
    found = [f"{what}: {_few(keys)}" for what, keys in problems.items() if keys]
    if found:
        raise UserError(f"expected the weights of {arch} in {path}, got keys {'; '.join(found)}")
    for key, value in state.items():
        try:
            check_cast(path, key, value, own[key].dtype)
        except (RuntimeError, NotImplementedError, TypeError) as error:
            raise UserError(f"expected numbers for '{key}' in {path}, got: {first_line(error)}") from error
    try:
        network.load_state_dict(state)
    except Exception as error:  # a user's own module can load its weights as it likes
        raise UserError(f"expected the weights of {arch} in {path}, got an error: {first_line(error)}") from error
    return network, found_weights.note


def _few(keys: list[str], most: int = 5) -> str:
    keys = [key if len(key) <= LONGEST else f"{key[: LONGEST - 3]}..." for key in keys]
    more = f" and {len(keys) - most} more" if len(keys) > most else ""
    return ", ".join(keys[:most]) + more


def _check_finite(path: Path, network: nn.Module) -> None:
    for key, value in network.state_dict().items():
        if value.is_floating_point() and not value.isfinite().all():
            raise UserError(f"expected finite weights in {path}, got NaN or infinity in '{key}'")
