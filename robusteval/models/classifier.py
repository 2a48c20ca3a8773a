"""Classifier: pixels in [0, 1] -> logits, in eval mode, with frozen parameters, counting and timing its evaluations.

It owns its module: what a caller hands in is copied (making.py), and a change of device or type makes another copy.
"""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable
from contextlib import redirect_stdout
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn

from robusteval.core.errors import UnsupportedError
from robusteval.models.answers import answered, misclassified
from robusteval.models.meter import Meter

_NOT_RECORDED = ("call numpy() on Tensor", "does not require grad", "Inference tensors cannot be saved")
"""What torch says of a network that cannot be recorded for a pass back."""


@dataclass(frozen=True)
class CheckpointOrigin:
    """Where a classifier came from: enough to open it again."""

    path: str
    arch: str | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    training: str | None = None
    """How it was trained, as its card says."""
    training_seconds: float | None = None
    class_names: tuple[str, ...] = ()
    """As its card has them."""
    binary: bool = False
    """Whether its one logit stands for two classes."""


@dataclass(frozen=True, eq=False)
class Classifier:
    """A trained model under audit.

    Calling it takes pixels (M, C, H, W) in [0, 1] and gives logits (M, num_classes), differentiable with
    respect to the pixels. Every call is booked in the meter, in equal parts to the images of this view, and every pass
    is timed there: from the pixels to the output, back, and back through that. Answers that are not finite are counted
    there. Entries of a gradient that are not finite are zero for whoever climbs it (`gradient`, `jacobian`,
    `as_module`), and such gradients are counted too; where the model lets none through, these raise UnsupportedError.
    """

    name: str
    module: nn.Module
    num_classes: int
    input_shape: tuple[int, int, int]
    fingerprint: str
    origin: CheckpointOrigin | None = None
    batch_size: int = 100
    dtype: torch.dtype = torch.float32
    """The floating-point type that it computes in."""
    mean: tuple[float, ...] = ()
    """Of the normalisation in it, one value a channel; empty where that is not known."""
    std: tuple[float, ...] = ()
    averaged: int = 1
    """Evaluations of the network behind each of its own (models/averaged.py)."""
    votes: int = 1
    """How often the judge evaluates an image to decide; more than once where the outputs are random."""
    meter: Meter = field(default_factory=lambda: Meter(1))
    rows: Tensor = field(default_factory=lambda: torch.zeros(1, dtype=torch.int64))

    def __call__(self, pixels: Tensor) -> Tensor:
        return self._booked(self.module, pixels)

    def predict(self, pixels: Tensor) -> Tensor:
        """Logits (M, K) without gradients, evaluated in batches of at most `batch_size`."""
        with torch.no_grad():
            return torch.cat([self(part) for part in pixels.split(self.batch_size)])

    def misclassifies(self, pixels: Tensor, labels: Tensor) -> Tensor:
        """Which finite images (M, C, H, W) get another class than `labels` (M,), (M,) bool."""
        return misclassified(self.predict(pixels), labels) & pixels.isfinite().flatten(1).all(1)

    def gradient(self, pixels: Tensor, objective: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """Gradient (N, C, H, W) of objective(logits) (N,) at each image, the values, the logits."""
        with torch.enable_grad():
            x = pixels.detach().requires_grad_()
            logits = self._differentiable(x)
            values = objective(logits)
            gradient = self._pulled(values.sum(), x)
        return gradient, values.detach(), logits.detach()

    def jacobian(self, pixels: Tensor, classes: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Logits (N, K) and their Jacobian (N, K, C, H, W), one backward a class; with `classes` (N, k) only those
        of these classes, (N, k, C, H, W)."""
        with torch.enable_grad():
            x = pixels.detach().requires_grad_()
            logits = self._differentiable(x)
            outputs = (logits if classes is None else logits.gather(1, classes)).unbind(1)
            rows = [self._pulled(o.sum(), x, again=i + 1 < len(outputs)) for i, o in enumerate(outputs)]
        return logits.detach(), torch.stack(rows, dim=1)

    def features(self, pixels: Tensor) -> Tensor:
        """What the last linear layer takes, (M, D), differentiable: phi^{L-1} of OpNorm."""
        layers = [m for m in self.module.modules() if isinstance(m, nn.Linear)]
        if not layers:
            raise UnsupportedError(
                f"expected a network that ends in torch.nn.Linear to read features from, got {self.name}"
            )
        seen: list[Tensor] = []

        def taken(pixels: Tensor) -> Tensor:
            self.module(pixels)
            return seen[-1].flatten(1)

        hook = layers[-1].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
        try:
            return self._booked(taken, pixels)
        finally:
            hook.remove()

    def metered(self, n: int) -> Classifier:
        """The same model with a fresh meter for n images."""
        return replace(self, meter=Meter(n), rows=torch.arange(n))

    def select(self, rows: Tensor) -> Classifier:
        """A view whose evaluations are booked to some of this view's images (indices or a mask)."""
        return replace(self, rows=self.rows[rows.cpu()])

    def as_module(self) -> nn.Module:
        """A plain torch module for libraries that want one; its evaluations are booked here too. It takes images of
        any floating-point dtype and answers in it: some libraries know float32 only. Raises UnsupportedError where a
        gradient is asked for and the model lets none through."""
        return _Counted(self)

    def __repr__(self) -> str:
        shape = "x".join(map(str, self.input_shape))
        return (
            f"Classifier('{self.name}', {shape}, {self.num_classes} classes, {str(self.dtype).removeprefix('torch.')})"
        )

    @property
    def device(self) -> torch.device:
        """Where it computes: the device of its first weight or buffer."""
        device: torch.device = next(iter(self.module.state_dict().values())).device
        return device

    def to(self, device: torch.device | str, dtype: torch.dtype) -> Classifier:
        """The model on another device or in another floating-point type, as a copy; itself where nothing changes."""
        if dtype == self.dtype and torch.device(device) == self.device:
            return self
        return replace(self, module=copy.deepcopy(self.module).to(device=device, dtype=dtype), dtype=dtype)

    def reduced(self, dtype: torch.dtype) -> Classifier:
        """The same model computing in a shorter type and channels-last, for a search that others judge; images,
        gradients and logits stay in the type of the images."""
        return replace(self, module=_Reduced(self.module, dtype))

    def sound(self, gradient: Tensor) -> Tensor:
        """A gradient (M, C, H, W), its non-finite entries zero; images that had any are counted."""
        finite = gradient.isfinite()
        if finite.all():
            return gradient
        Meter.mark(self.meter.non_finite_gradients, self.rows, ~finite.flatten(1).all(1))
        return torch.where(finite, gradient, 0.0)

    def _differentiable(self, pixels: Tensor) -> Tensor:
        """The logits of pixels that ask for a gradient. Raises UnsupportedError where they have none."""
        try:
            logits = self(pixels)
        except RuntimeError as error:
            if any(sign in str(error) for sign in _NOT_RECORDED):
                raise self._no_gradient(str(error).splitlines()[0]) from error
            raise
        if not logits.requires_grad:
            raise self._no_gradient("outputs without a graph, as under no_grad or behind detach")
        return logits

    def _pulled(self, value: Tensor, pixels: Tensor, again: bool = False) -> Tensor:
        """The gradient of a value with respect to the pixels, `again` if the graph is still needed."""
        try:
            (gradient,) = torch.autograd.grad(value, pixels, retain_graph=again, allow_unused=True)
        except torch.cuda.OutOfMemoryError:
            raise
        except RuntimeError as error:
            raise self._no_gradient(str(error).splitlines()[0]) from error
        if gradient is None:
            raise self._no_gradient("outputs that do not depend on the pixels")
        return self.sound(gradient)

    def _no_gradient(self, found: str) -> UnsupportedError:
        return UnsupportedError(f"expected a model that lets gradients through, got from {self.name}: {found}")

    def _booked(self, network: Callable[[Tensor], Tensor], pixels: Tensor) -> Tensor:
        meter, rows, device = self.meter, self.rows, pixels.device
        # An alias of its own: its gradient is where this call's pass back ends, whatever else is done with the pixels.
        own = pixels[...] if torch.is_grad_enabled() and pixels.requires_grad else pixels
        meter.stopwatch.start(device)
        output = self._answer(network, own)
        meter.stopwatch.stop()
        evaluated = len(output) * self.averaged
        meter.add(meter.forwards, rows, evaluated)
        if not (finite := answered(output.detach())).all():
            meter.mark(meter.non_finite_answers, rows, ~finite)

        # A pass back through the backward pass goes forward through the layers: J v out of J^T u.
        def back_begins(gradient: Tensor) -> None:
            meter.add(meter.backwards, rows, evaluated)
            if gradient.requires_grad:
                gradient.register_hook(through_ends)
            meter.stopwatch.start(device)

        def back_ends(gradient: Tensor | None) -> None:
            meter.stopwatch.stop()
            # A layer that lets no gradient through may give none at all.
            if gradient is not None and gradient.requires_grad:
                gradient.register_hook(through_begins)

        def through_begins(_: Tensor) -> None:
            meter.stopwatch.start(device)

        def through_ends(_: Tensor) -> None:
            meter.stopwatch.stop()
            meter.add(meter.forwards, rows, evaluated)

        if output.requires_grad:
            output.register_hook(back_begins)
            if own is not pixels:
                own.register_hook(back_ends)
        return output

    def _answer(self, network: Callable[[Tensor], Tensor], pixels: Tensor) -> Tensor:
        """What the network says, a row an image. What it prints is none of the program's output, and its sys.exit is
        an error like any other."""
        try:
            with redirect_stdout(sys.stderr):
                output = network(pixels)
        except SystemExit as error:
            raise RuntimeError(f"{self.name} called sys.exit({error.code})") from error
        if len(output) != len(pixels):
            raise RuntimeError(f"expected {len(pixels)} rows of logits from {self.name}, got {len(output)}")
        return output.clone() if output.is_inference() else output


class _Reduced(nn.Module):
    """A copy of a network in a shorter floating-point type."""

    def __init__(self, module: nn.Module, dtype: torch.dtype) -> None:
        super().__init__()
        self.inner = copy.deepcopy(module).to(dtype=dtype, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.dtype = dtype

    def forward(self, pixels: Tensor) -> Tensor:
        logits: Tensor = self.inner(pixels.to(self.dtype, memory_format=torch.channels_last))
        return logits.to(pixels.dtype)


class _Counted(nn.Module):
    def __init__(self, classifier: Classifier) -> None:
        super().__init__()
        self.inner = classifier.module
        self.classifier = classifier
        self.eval()

    def forward(self, pixels: Tensor) -> Tensor:
        own = pixels.to(self.classifier.dtype)
        if not (torch.is_grad_enabled() and own.requires_grad):
            return self.classifier(own).to(pixels.dtype)
        # An alias of its own: what comes back through it is this model's gradient, and nothing else's.
        own = own[...]
        own.register_hook(self.classifier.sound)
        return self.classifier._differentiable(own).to(pixels.dtype)
