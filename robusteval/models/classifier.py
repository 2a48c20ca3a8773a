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
from robusteval.models.answers import misclassified
from robusteval.models.evaluation import evaluated
from robusteval.models.feature_layer import FeatureLayer, feature_layer
from robusteval.models.meter import Meter
from robusteval.models.parts import in_parts
from robusteval.models.recording import check_recorded, no_gradient, passed_back, recorded


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
    taken: str = ""
    """Below which wrapper and behind which prefix its weights were; empty where they lay plainly."""
    notes: tuple[str, ...] = ()
    """What a user should know of how it was read, one line each."""


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
    """Of the weights and of what computes with them (models/fingerprint.py)."""
    origin: CheckpointOrigin | None = None
    batch_size: int = 100
    at_once: int | None = None
    """Of how many images the network is given at most, whoever asks, where memory does not suffice for more."""
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
        return misclassified(self.predict(pixels), labels) & pixels.isfinite().flatten(1).all(1)

    def gradient(self, pixels: Tensor, objective: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """Gradient (N, C, H, W) of objective(logits) (N,) at each image, the values, the logits."""
        gradient, values, logits = self.slope(pixels, objective)
        return self.sound(gradient), values, logits

    def slope(self, pixels: Tensor, objective: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """The same with entries that are not finite as they are: what a bound rests on must not be smaller than it
        is."""
        with torch.enable_grad():
            x = pixels.detach().requires_grad_()
            logits = self.differentiable(x)
            values = objective(logits)
            gradient = self.pulled(values.sum(), x)
        return gradient, values.detach(), logits.detach()

    def jacobian(
        self, pixels: Tensor, classes: Tensor | Callable[[Tensor], Tensor] | None = None
    ) -> tuple[Tensor, Tensor]:
        """Logits (N, K) and their Jacobian (N, K, C, H, W), one backward a class; with `classes` (N, k), or what
        chooses them by the logits, only those of these classes, (N, k, C, H, W). A caller keeps these k * C * H * W
        numbers an image within memory."""
        with torch.enable_grad():
            x = pixels.detach().requires_grad_()
            logits = self.differentiable(x)
            every = torch.arange(logits.shape[1], device=x.device).expand_as(logits)
            chosen = classes(logits.detach()) if callable(classes) else every if classes is None else classes
            jacobian = x.new_empty(len(x), chosen.shape[1], *x.shape[1:])
            for i, own in enumerate(chosen.unbind(1)):
                unit = torch.zeros_like(logits).scatter_(1, own[:, None], 1)
                jacobian[:, i] = self.sound(self.pulled(logits, x, unit, again=i + 1 < chosen.shape[1]))
        return logits.detach(), jacobian

    def feature_layer(self) -> FeatureLayer:
        """The layer whose input the features are: the last torch.nn.Linear that the logits follow from, found by
        running the network on one grey image. Raises UnsupportedError where there is none."""
        weight = next(iter(self.module.state_dict().values()))
        grey = torch.full((1, *self.input_shape), 0.5, device=weight.device, dtype=self.dtype)
        return feature_layer(self.module, self, grey, self.name)

    def features(self, pixels: Tensor) -> Tensor:
        """What that layer takes, (M, D), differentiable: phi^{L-1} of OpNorm. Raises UnsupportedError."""
        layer = self._feature_layer
        seen: list[Tensor] = []

        def taken(pixels: Tensor) -> Tensor:
            seen.clear()
            module = self.module.get_submodule(layer.name)
            with module.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0])):
                self.module(pixels)
            if len(seen) <= layer.call or len(seen[layer.call]) != len(pixels):
                raise UnsupportedError(
                    f"expected one row of features an image from '{layer.name}' of {self.name}, got others"
                )
            return seen[layer.call].flatten(1)

        with recorded(self.name):
            return self._booked(taken, pixels)

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

    def sound(self, gradient: Tensor | None) -> Tensor:
        """A gradient (M, C, H, W), its non-finite entries zero; images that had any are counted. Raises
        UnsupportedError where none came back."""
        if gradient is None:
            raise no_gradient(self.name, "outputs that do not depend on the pixels")
        if gradient.sum().isfinite():  # no sum is finite over an entry that is not
            return gradient
        finite = gradient.isfinite()
        Meter.mark(self.meter.non_finite_gradients, self.rows, ~finite.flatten(1).all(1))
        return torch.where(finite, gradient, 0.0)

    def differentiable(self, pixels: Tensor) -> Tensor:
        """The logits of pixels that ask for a gradient. Raises UnsupportedError where they have none."""
        with recorded(self.name):
            logits = self(pixels)
        return check_recorded(self.name, logits)

    def pulled(self, value: Tensor, pixels: Tensor, unit: Tensor | None = None, again: bool = False) -> Tensor:
        """The gradient of a value, times `unit`, with respect to the pixels, as it is; `again` if the graph is still
        needed. Raises UnsupportedError where there is none."""
        with passed_back(self.name):
            (gradient,) = torch.autograd.grad(value, pixels, unit, retain_graph=again, allow_unused=True)
        if gradient is None:
            raise no_gradient(self.name, "outputs that do not depend on the pixels")
        found: Tensor = gradient
        return found

    def _booked(self, network: Callable[[Tensor], Tensor], pixels: Tensor) -> Tensor:
        network = network if self.at_once is None else in_parts(network, self.at_once)
        return evaluated(self.name, network, pixels, self.meter, self.rows, self.averaged)


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
        return self.classifier.differentiable(own).to(pixels.dtype)
