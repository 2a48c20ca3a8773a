"""Classifier: pixels in [0, 1] -> logits, in eval mode, with frozen parameters, counting and timing its evaluations.

It owns its module: what a caller hands in is copied (making.py), and a change of device or type makes another copy.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property

import torch
from torch import Tensor, nn

from robusteval.core.errors import UnsupportedError
from robusteval.models.feature_layer import FeatureLayer, feature_layer
from robusteval.models.meter import Meter


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


@dataclass(frozen=True, eq=False)
class Classifier:
    """A trained model under audit.

    Calling it takes pixels (M, C, H, W) in [0, 1] and gives logits (M, num_classes), differentiable with
    respect to the pixels. Every call is booked in the meter, in equal parts to the images of this view, and every pass
    is timed there: from the pixels to the output, back, and back through that.
    """

    name: str
    module: nn.Module
    num_classes: int
    input_shape: tuple[int, int, int]
    fingerprint: str
    """Of the weights and of what computes with them (models/fingerprint.py)."""
    origin: CheckpointOrigin | None = None
    batch_size: int = 100
    dtype: torch.dtype = torch.float32
    """The floating-point type that it computes in."""
    meter: Meter = field(default_factory=lambda: Meter(1))
    rows: Tensor = field(default_factory=lambda: torch.zeros(1, dtype=torch.int64))
    weights: str = ""
    """Of the weights alone, to tell what differs between two fingerprints."""

    def __call__(self, pixels: Tensor) -> Tensor:
        return self._booked(self.module, pixels)

    def predict(self, pixels: Tensor) -> Tensor:
        """Logits (M, K) without gradients, evaluated in batches of at most `batch_size`."""
        with torch.no_grad():
            return torch.cat([self(part) for part in pixels.split(self.batch_size)])

    def misclassifies(self, pixels: Tensor, labels: Tensor) -> Tensor:
        """Which finite images (M, C, H, W) get another class than `labels` (M,), (M,) bool."""
        return (self.predict(pixels).argmax(1) != labels) & pixels.isfinite().flatten(1).all(1)

    def gradient(self, pixels: Tensor, objective: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """Gradient (N, C, H, W) of objective(logits) (N,) at each image, the values, the logits."""
        with torch.enable_grad():
            x = pixels.detach().requires_grad_()
            logits = self(x)
            values = objective(logits)
            (gradient,) = torch.autograd.grad(values.sum(), x)
        return gradient, values.detach(), logits.detach()

    def jacobian(
        self, pixels: Tensor, classes: Tensor | Callable[[Tensor], Tensor] | None = None
    ) -> tuple[Tensor, Tensor]:
        """Logits (N, K) and their Jacobian (N, K, C, H, W), one backward a class; with `classes` (N, k), or what
        chooses them by the logits, only those of these classes, (N, k, C, H, W). A caller keeps these k * C * H * W
        numbers an image within memory."""
        with torch.enable_grad():
            x = pixels.detach().requires_grad_()
            logits = self(x)
            every = torch.arange(logits.shape[1], device=x.device).expand_as(logits)
            chosen = classes(logits.detach()) if callable(classes) else every if classes is None else classes
            jacobian = x.new_empty(len(x), chosen.shape[1], *x.shape[1:])
            for i, own in enumerate(chosen.unbind(1)):
                unit = torch.zeros_like(logits).scatter_(1, own[:, None], 1)
                (jacobian[:, i],) = torch.autograd.grad(logits, x, unit, retain_graph=i + 1 < chosen.shape[1])
        return logits.detach(), jacobian

    def feature_layer(self) -> FeatureLayer:
        """The layer whose input the features are: the last torch.nn.Linear that the logits follow from, found by
        running the network on one grey image, which is not booked. Raises UnsupportedError where there is none."""
        weight = next(iter(self.module.state_dict().values()))
        grey = torch.full((1, *self.input_shape), 0.5, device=weight.device, dtype=self.dtype)
        return feature_layer(self.module, grey, self.name)

    def features(self, pixels: Tensor) -> Tensor:
        """What that layer takes, (M, D), differentiable: phi^{L-1} of OpNorm. Raises UnsupportedError."""
        layer = self._feature_layer
        seen: list[Tensor] = []

        def taken(pixels: Tensor) -> Tensor:
            self.module(pixels)
            if len(seen) <= layer.call or len(seen[layer.call]) != len(pixels):
                raise UnsupportedError(
                    f"expected one row of features an image from '{layer.name}' of {self.name}, got others"
                )
            return seen[layer.call].flatten(1)

        module = self.module.get_submodule(layer.name)
        hook = module.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
        try:
            return self._booked(taken, pixels)
        finally:
            hook.remove()

    @cached_property
    def _feature_layer(self) -> FeatureLayer:
        return self.feature_layer()

    def metered(self, n: int) -> Classifier:
        """The same model with a fresh meter for n images."""
        return replace(self, meter=Meter(n), rows=torch.arange(n))

    def select(self, rows: Tensor) -> Classifier:
        """A view whose evaluations are booked to some of this view's images (indices or a mask)."""
        return replace(self, rows=self.rows[rows.cpu()])

    def as_module(self) -> nn.Module:
        """A plain torch module for libraries that want one; its evaluations are booked here too. It takes images of
        any floating-point dtype and answers in it: some libraries know float32 only."""
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

    def _booked(self, network: Callable[[Tensor], Tensor], pixels: Tensor) -> Tensor:
        meter, rows, device = self.meter, self.rows, pixels.device
        # An alias of its own: its gradient is where this call's pass back ends, whatever else is done with the pixels.
        own = pixels[...] if torch.is_grad_enabled() and pixels.requires_grad else pixels
        meter.stopwatch.start(device)
        output = network(own)
        meter.stopwatch.stop()
        evaluated = len(output)
        meter.add(meter.forwards, rows, evaluated)

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
        self.call = classifier.__call__
        self.dtype = classifier.dtype
        self.eval()

    def forward(self, pixels: Tensor) -> Tensor:
        return self.call(pixels.to(self.dtype)).to(pixels.dtype)
