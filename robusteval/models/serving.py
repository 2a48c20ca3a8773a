"""Networks as people have them, served as a classifier needs them: any number of images in, a row of logits each out.

Each way of serving is a small module around the network, and stands there only where the network needs it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from robusteval.core.errors import UserError, first_line

SIZES = (1, 2, 3, 4, 8, 10, 16, 20, 32, 50, 64, 100, 128, 200, 256, 512)
"""Numbers of images that a network is tried with which does not take any number, in this order."""
FIELD = "logits"


class Logits(nn.Module):
    """A network that answers with a dictionary, a named tuple or an object that holds `logits`."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, pixels: Tensor) -> Any:
        answer = self.network(pixels)
        return answer[FIELD] if isinstance(answer, Mapping) else answer.logits


class Single(nn.Module):
    """A network that answers with a tuple or a list of one tensor."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, pixels: Tensor) -> Any:
        return self.network(pixels)[0]


class TwoClasses(nn.Module):
    """A network with one logit z an image, (N, 1) or (N,), as two classes: 0 where z < 0, 1 where z > 0, their softmax
    the sigmoid of z."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, pixels: Tensor) -> Tensor:
        half: Tensor = self.network(pixels).reshape(-1, 1) / 2
        return torch.cat([-half, half], dim=1)


class InTypeOfPixels(nn.Module):
    """A network whose answers are of another floating-point type than the images."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, pixels: Tensor) -> Tensor:
        logits: Tensor = self.network(pixels)
        return logits.to(pixels.dtype)


class FixedBatch(nn.Module):
    """A network that takes `size` images at a time: more are cut, and the last ones filled up with copies of the last.

    With `size` 1 each image is answered by itself, whatever else is in the batch.
    """

    def __init__(self, network: nn.Module, size: int) -> None:
        super().__init__()
        self.network, self.size = network, size

    def forward(self, pixels: Tensor) -> Tensor:
        if not len(pixels):
            return self._answer(pixels.new_zeros(1, *pixels.shape[1:]))[:0]
        return torch.cat([self._answer(part) for part in pixels.split(self.size)])

    def _answer(self, part: Tensor) -> Tensor:
        missing = self.size - len(part)
        full = torch.cat([part, part[-1:].expand(missing, *part.shape[1:])]) if missing else part
        answer: Tensor = self.network(full)
        return answer[: len(part)]

    def extra_repr(self) -> str:
        return f"size={self.size}"


def served(name: str, network: nn.Module, pixels: Tensor, binary: bool = False) -> nn.Module:
    """The network with what it needs around it to give logits (N, K) of any N images.

    pixels: one image (1, C, H, W) to try it with. binary: its one logit stands for two classes. Raises UserError in
    one line where its answers are no logits, or where it takes no number of images that is tried.
    """
    size, answer = _size_taken(name, network, pixels)
    network = _answering_with_tensors(name, network, answer)
    if size:
        network = FixedBatch(network, size)
    logits = network(_several(pixels, size or 1))
    if binary:
        return _in_type(_of_two_classes(name, network, logits), pixels)
    if logits.dim() != 2 or len(logits) != (size or 1) or logits.shape[1] < 2:
        hint = "; if one logit stands for two classes, say so: --binary" if logits.numel() == len(logits) else ""
        raise UserError(f"expected logits of shape (1, classes >= 2) from {name}, got {tuple(logits.shape)}{hint}")
    if not logits.is_floating_point():
        raise UserError(f"expected logits of floating point from {name}, got {logits.dtype}")
    return _in_type(network, pixels)


def _several(pixels: Tensor, count: int) -> Tensor:
    """So many different images."""
    shades = torch.linspace(1, 0.5, count, device=pixels.device, dtype=pixels.dtype)
    return pixels * shades.view(-1, 1, 1, 1)


def _size_taken(name: str, network: nn.Module, pixels: Tensor) -> tuple[int, Any]:
    """0 for a network that takes one image as well as three, else the number that it takes; and an answer."""
    first: Exception | SystemExit | None = None
    answers: dict[int, Any] = {}
    for size in (1, 3):
        try:
            answers[size] = network(_several(pixels, size))
        except (Exception, SystemExit) as error:
            first = first or error
    if len(answers) == 2 and _rows(answers[3]) in (None, 3):
        return 0, answers[1]
    for size in SIZES:
        try:
            answer = answers.get(size) if size in answers else network(_several(pixels, size))
        except (Exception, SystemExit):
            continue
        if _rows(answer) in (None, size):
            return size, answer
    if first is None:
        raise UserError(f"expected a row of logits for each image from {name}, got {_rows(answers[3])} for three")
    what = "it called sys.exit" if isinstance(first, SystemExit) else first_line(first)
    shape = "x".join(map(str, pixels.shape[1:]))
    raise UserError(f"expected a network that takes images of shape {shape}, got an error from {name}: {what}")


def _rows(answer: Any) -> int | None:
    """For how many images an answer is, where that can be told."""
    found = _held(answer)
    return len(found) if isinstance(found, Tensor) and found.dim() else None


def _held(answer: Any) -> Any:
    """The tensor in an answer that holds its logits under that name, or nothing else; the answer itself otherwise."""
    if isinstance(answer, Tensor):
        return answer
    if isinstance(answer, Mapping):
        return answer.get(FIELD, answer)
    if hasattr(answer, FIELD):
        return getattr(answer, FIELD)
    return answer[0] if isinstance(answer, tuple | list) and len(answer) == 1 else answer


def _answering_with_tensors(name: str, network: nn.Module, answer: Any) -> nn.Module:
    if isinstance(answer, Tensor):
        return network
    if not isinstance(_held(answer), Tensor):
        inside = f" with {', '.join(map(str, answer))}" if isinstance(answer, Mapping) else ""
        raise UserError(
            f"expected logits as a tensor, or in a field `{FIELD}`, from {name}, got {type(answer).__name__}{inside}; "
            "wrap the network in a module whose forward gives the logits alone"
        )
    named = isinstance(answer, Mapping) or hasattr(answer, FIELD)
    return Logits(network) if named else Single(network)


def _of_two_classes(name: str, network: nn.Module, logits: Tensor) -> nn.Module:
    if logits.numel() != len(logits):
        raise UserError(f"expected one logit an image from {name} with --binary, got {tuple(logits.shape)}")
    return TwoClasses(network)


def _in_type(network: nn.Module, pixels: Tensor) -> nn.Module:
    return network if network(_several(pixels, 1)).dtype == pixels.dtype else InTypeOfPixels(network)
