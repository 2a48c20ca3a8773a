"""A model file -> Classifier: one reader a format, strict, and without executing what the file holds.

Safe means: safetensors, torch.load(weights_only=True), or torch's own program formats, whose operators are the only
thing that runs. A file that needs more is refused.
"""

from __future__ import annotations

import pickle
import warnings
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from robusteval.core.errors import UserError, first_line
from robusteval.models.architectures import ARCHITECTURES, build_network
from robusteval.models.card import read_card
from robusteval.models.casting import check_cast
from robusteval.models.classifier import CheckpointOrigin, Classifier
from robusteval.models.making import own_network
from robusteval.models.zoo import located

_WRAPPERS = ("state_dict", "model", "model_state_dict")
_PREFIX = "module."
Weights = dict[str, Tensor]


def open_checkpoint(
    path: str | Path,
    arch: str | None = None,
    *,
    input_shape: tuple[int, int, int],
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    binary: bool = False,
) -> Classifier:
    """A classifier from a checkpoint.

    path: weights (.safetensors, .pt, .pth), for which `arch` says which network they fill, or a whole program
    (.pt2 of torch.export with a dynamic batch dimension, TorchScript), which needs no `arch`; or zoo:NAME.
    input_shape: (C, H, W) of the images, in [0, 1]; mean, std: the normalisation, one value a channel. What is not
    given is read from the model card beside the weights, if there is one. A card names known architectures only: one
    that is a file is run where `arch` names it.
    Raises UserError in one line for anything that does not fit.
    """
    path = located(path)
    if not path.is_file():
        raise UserError(
            f"expected a checkpoint file, got {path}, which {'is a folder' if path.is_dir() else 'does not exist'}"
        )
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        raise UserError(f"expected a checkpoint ending in {', '.join(_READERS)}, got {path}")
    content, card = reader(path), read_card(path)
    if card is not None:
        arch = arch or _known_architecture(path, card.arch)
        mean, std = (card.mean, card.std) if mean is None and std is None else (mean, std)
    network = content if isinstance(content, nn.Module) else _filled(path, arch, content)
    _check_finite(path, network)
    means, stds = (None if v is None else tuple(float(x) for x in v) for v in (mean, std))
    classifier = own_network(path.stem, network, input_shape, means, stds, binary)
    origin = CheckpointOrigin(str(path.resolve()), arch, means, stds, binary=binary)
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


def _read_safetensors(path: Path) -> Weights:
    try:
        weights: Weights = load_file(path)
        return weights
    except (SafetensorError, OSError) as error:
        raise UserError(f"expected safetensors in {path}, got: {error}") from error


def _read_torch(path: Path) -> Weights | nn.Module:
    if zipfile.is_zipfile(path):
        try:
            with zipfile.ZipFile(path) as archive:
                names = archive.namelist()
        except Exception as error:  # zipfile raises all kinds for a damaged archive
            raise UserError(f"expected a torch checkpoint in {path}, got: {first_line(error)}") from error
        if any(name.endswith("constants.pkl") for name in names) and any("/code/" in name for name in names):
            return _read_torchscript(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise UserError(
            f"expected plain weights in {path}, got a file that would have to execute code to load; if you trust "
            f"where it comes from, load it yourself and save its state_dict() as .safetensors"
        ) from error
    except Exception as error:  # torch raises all kinds for a file that is not its own
        problem = (str(error) or type(error).__name__).splitlines()[0]
        raise UserError(f"expected a torch checkpoint in {path}, got: {problem}") from error
    return _state_dict(path, content)


def _read_torchscript(path: Path) -> nn.Module:
    try:
        program: nn.Module = torch.jit.load(str(path), map_location="cpu")
    except (RuntimeError, ValueError) as error:
        raise UserError(f"expected a TorchScript program in {path}, got: {str(error).splitlines()[0]}") from error
    return program


class _Exported(nn.Module):
    """A torch.export program, which was exported in eval mode and refuses to be told so again."""

    def __init__(self, program: nn.Module, path: Path) -> None:
        super().__init__()
        self.program, self.path = program, path

    def train(self, mode: bool = True) -> _Exported:
        return self

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.program(x)
        return logits


def _read_exported(path: Path) -> nn.Module:
    try:
        program = torch.export.load(path)
    except Exception as error:
        raise UserError(f"expected a torch.export program in {path}, got: {str(error).splitlines()[0]}") from error
    if not program.range_constraints:
        raise UserError(
            f"expected a program with a dynamic batch dimension in {path}, got fixed sizes; export it with "
            f"dynamic_shapes=({{0: torch.export.Dim('batch')}},)"
        )
    return _Exported(program.module(), path)


_READERS: dict[str, Callable[[Path], Weights | nn.Module]] = {
    ".safetensors": _read_safetensors,
    ".pt": _read_torch,
    ".pth": _read_torch,
    ".ts": _read_torchscript,
    ".pt2": _read_exported,
}


def _state_dict(path: Path, content: Any) -> Weights:
    """The weights, out of the wrappings that training scripts give them."""
    for key in _WRAPPERS:
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
            break
    if not isinstance(content, Mapping) or not content:
        raise UserError(f"expected a state dict in {path}, got {type(content).__name__}")
    for key, value in content.items():
        if not isinstance(key, str) or not isinstance(value, Tensor):
            raise UserError(
                f"expected only tensors in the state dict of {path}, got {type(value).__name__} for '{key}'"
            )
    if all(key.startswith(_PREFIX) for key in content):
        return {key.removeprefix(_PREFIX): value for key, value in content.items()}
    return dict(content)


def _filled(path: Path, arch: str | None, state: Weights) -> nn.Module:
    if arch is None:
        raise UserError(
            f"expected --arch for the weights in {path}, got none; "
            f"known: {', '.join(ARCHITECTURES)}, or FILE.py:FUNCTION"
        )
    network = build_network(arch)
    own = network.state_dict()
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
        check_cast(path, key, value, own[key].dtype)
    try:
        network.load_state_dict(state)
    except Exception as error:  # a user's own module can load its weights as it likes
        raise UserError(f"expected the weights of {arch} in {path}, got an error: {first_line(error)}") from error
    return network


def _few(keys: list[str], most: int = 5) -> str:
    more = f" and {len(keys) - most} more" if len(keys) > most else ""
    return ", ".join(keys[:most]) + more


def _check_finite(path: Path, network: nn.Module) -> None:
    for key, value in network.state_dict().items():
        if value.is_floating_point() and not value.isfinite().all():
            raise UserError(f"expected finite weights in {path}, got NaN or infinity in '{key}'")
