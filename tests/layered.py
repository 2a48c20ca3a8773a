"""A layer between two others, for each layer that bounds pass through and each of its settings."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from propagating import SHAPE, candidates
from robusteval.models.classifier import Classifier
from robusteval.models.making import make_classifier

Function = Callable[[Tensor], Tensor]


class Applied(nn.Module):
    """A function as a layer."""

    def __init__(self, function: Function) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


class Between(nn.Module):
    """A convolution, ReLU, a layer that takes planes (4, 8, 8), and a linear layer for what that gives."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.first, self.layer = nn.Conv2d(2, 4, 3, padding=1), layer
        with torch.no_grad():
            features = layer(self.first(torch.zeros(2, *SHAPE))).flatten(1).shape[1]
        self.last = nn.Linear(features, 4)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.last(self.layer(torch.relu(self.first(x))).flatten(1))
        return logits


def between(layer: nn.Module, dtype: torch.dtype = torch.float32, seed: int = 5) -> Classifier:
    torch.manual_seed(seed)
    for part in layer.modules():
        if part is not layer or not list(layer.children()):
            getattr(part, "reset_parameters", lambda: None)()
    network = Between(layer)
    with torch.no_grad():
        network.first.weight.mul_(2)
        logits = network(candidates(40, SHAPE))
        network.last.bias.sub_(logits.mean(0))
    return make_classifier("between", network, SHAPE).to("cpu", dtype)


def _of(function: Function) -> Callable[[], nn.Module]:
    return lambda: Applied(function)


def _flat(function: Function) -> Callable[[], nn.Module]:
    """Of values with one axis less: (N, 4, 64)."""
    return lambda: Applied(lambda x: function(x.flatten(2)))


def _series(layer: Callable[[], nn.Module]) -> Callable[[], nn.Module]:
    return lambda: nn.Sequential(nn.Flatten(2), layer())


def _split(x: Tensor) -> Tensor:
    one, three = x.split([1, 3], 1)
    return torch.cat([three, one], 1)


def _unbound(x: Tensor) -> Tensor:
    first, second = x[:, :2].unbind(1)
    return first + 2 * second


def _scaled(factor: float) -> nn.Module:
    return Applied(lambda x: factor * x)


AFFINE: dict[str, Callable[[], nn.Module]] = {
    "difference": _of(lambda x: x - functional.avg_pool2d(x, 3, 1, 1)),
    "torch.sub": _of(lambda x: torch.sub(x, x.flip(1), alpha=0.3)),
    "torch.add": _of(lambda x: torch.add(x, x.flip(2), alpha=2)),
    "sum with alpha": _of(lambda x: x.add(0.5, alpha=3).sub(1, alpha=0.1)),
    "rsub": _of(lambda x: torch.rsub(x, 1.5, alpha=2)),
    "minus": _of(lambda x: -x + torch.neg(x) * 2),
    "ceil average": lambda: nn.AvgPool2d(3, 2, ceil_mode=True),
    "ceil average padded": lambda: nn.AvgPool2d(3, 2, 1, ceil_mode=True),
    "ceil average, last window in the padding": lambda: nn.AvgPool2d(2, 3, 1, ceil_mode=True),
    "average uncounted": lambda: nn.AvgPool2d(3, 2, 1, count_include_pad=False),
    "average uncounted ceil": lambda: nn.AvgPool2d((3, 2), (2, 3), 1, ceil_mode=True, count_include_pad=False),
    "average divisor": lambda: nn.AvgPool2d(3, 2, 1, ceil_mode=True, divisor_override=5),
    "ceil maximum": lambda: nn.MaxPool2d(3, 2, ceil_mode=True),
    "ceil maximum padded": lambda: nn.MaxPool2d((3, 5), (2, 4), 1, ceil_mode=True),
    "ceil maximum, last window dropped": lambda: nn.MaxPool2d(2, 3, 1, ceil_mode=True),
    "adaptive average": lambda: nn.AdaptiveAvgPool2d((3, 5)),
    "adaptive average upwards": lambda: nn.AdaptiveAvgPool2d((11, None)),
    "adaptive maximum": lambda: nn.AdaptiveMaxPool2d((4, 2)),
    "conv reflect": lambda: nn.Conv2d(4, 3, 3, padding=(2, 1), padding_mode="reflect"),
    "conv replicate": lambda: nn.Conv2d(4, 3, 3, 2, padding=1, padding_mode="replicate"),
    "conv circular": lambda: nn.Conv2d(4, 4, 3, padding=1, groups=2, padding_mode="circular"),
    "conv same": lambda: nn.Conv2d(4, 3, (4, 2), padding="same"),
    "conv same reflect": lambda: nn.Conv2d(4, 3, 4, padding="same", padding_mode="reflect"),
    "conv 1d": _series(lambda: nn.Conv1d(4, 3, 5, 2, 2, 2)),
    "conv 1d circular": _series(lambda: nn.Conv1d(4, 3, 4, 3, 2, padding_mode="circular")),
    "pools 1d": _flat(lambda x: functional.avg_pool1d(functional.max_pool1d(x, 3, 2, 1), 5, 3, 2)),
    "batch norm 1d": _series(lambda: nn.BatchNorm1d(4)),
    "zero pad": lambda: nn.ZeroPad2d((1, 2, 0, 3)),
    "cropped": lambda: nn.ZeroPad2d((-1, 2, 3, -2)),
    "constant pad": lambda: nn.ConstantPad2d((1, 0, 2, 1), -0.7),
    "reflection pad": lambda: nn.ReflectionPad2d((3, 1, 2, 0)),
    "replication pad": lambda: nn.ReplicationPad2d(2),
    "circular pad": lambda: nn.CircularPad2d((1, 2, 3, 0)),
    "pad": _of(
        lambda x: functional.pad(functional.pad(x, (1, 2), mode="constant", value=3.0), (2, 1, 0, 2), "reflect")
    ),
    "pad channels": _of(lambda x: functional.pad(x, (0, 0, 1, 0, 2, 1))),
    "transposed conv": lambda: nn.ConvTranspose2d(4, 3, 3, 2, 1, output_padding=1),
    "transposed conv grouped": lambda: nn.ConvTranspose2d(4, 6, (2, 3), (1, 2), (0, 1), groups=2, dilation=(3, 2)),
    "transposed conv far": lambda: nn.ConvTranspose2d(4, 2, 2, 2, 3, output_padding=2, dilation=3, bias=False),
    "transposed conv 1d": _series(lambda: nn.ConvTranspose1d(4, 2, 3, 2, 1)),
    "permute": _of(lambda x: x.permute(0, 2, 3, 1)),
    "transpose": _of(lambda x: x.transpose(1, 3).mT),
    "slices": _of(lambda x: x[:, 1:, ::2, :-1]),
    "strided": _of(lambda x: x[..., 1::3, x.shape[-1] // 2 :]),
    "indices": _of(lambda x: x[:, [0, 2, 2]][:, :, 3]),
    "chunks": _of(lambda x: x.chunk(2, 1)[0] - x.chunk(2, 1)[1]),
    "split": _of(_split),
    "unbind": _of(_unbound),
    "cat of rows": _of(lambda x: torch.cat([x[:, :, 1:3], x], 2)),
    "cat of columns": _of(lambda x: torch.cat([x, -x], -1)),
    "flip and roll": _of(lambda x: x.flip(2).roll((1, 3), (1, 3))),
    "shuffle": lambda: nn.Sequential(nn.PixelShuffle(2), nn.PixelUnshuffle(4), nn.ChannelShuffle(4)),
    "channel shuffle": _of(lambda x: x.view(x.size(0), 2, 2, 64).transpose(1, 2).reshape(-1, 4, 8, 8)),
    "repeat": _of(lambda x: x[:, :1].repeat(1, 2, 1, 2).narrow(2, 3, 4)),
    "expand": _of(lambda x: x.mean((2, 3), keepdim=True).expand(-1, -1, 2, 3)),
    "nearest": lambda: nn.Upsample(scale_factor=2),
    "interpolate": _of(lambda x: functional.interpolate(x, size=(5, 3))),
    "mean of channels": _of(lambda x: x.mean(1, keepdim=True)),
    "mean of rows": _of(lambda x: x.mean(dim=2)),
    "sum of columns": _of(lambda x: 0.2 * x.sum(-1)),
    "sum of channels and rows": _of(lambda x: x.sum((1, 2), keepdim=True)),
    "mean of all": _of(lambda x: torch.cat([x.mean((1, 2, 3), keepdim=True), x[:, :1, :1, :2]], 3)),
    "highest": _of(lambda x: torch.cat([x.amax((2, 3)), x.amax(2)[:, :, 0]], 1)),
    "linear along rows": _of(nn.Linear(8, 3)),
    "linear of tokens": lambda: nn.Sequential(nn.Flatten(2), nn.Linear(64, 5)),
}

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "leaky relu": lambda: nn.LeakyReLU(0.1),
    "leaky relu downwards": lambda: nn.LeakyReLU(-0.3),
    "leaky relu steep": _of(lambda x: functional.leaky_relu(x, 1.7)),
    "prelu": lambda: nn.PReLU(4, 0.2),
    "rrelu": lambda: nn.RReLU().eval(),
    "relu6": lambda: nn.Sequential(_scaled(4), nn.ReLU6()),
    "hardtanh": lambda: nn.Hardtanh(-0.5, 0.7),
    "clamp": _of(lambda x: x.clamp(max=0.3).clamp(-0.4)),
    "hard sigmoid": lambda: nn.Sequential(_scaled(4), nn.Hardsigmoid()),
    "absolute": _of(lambda x: x.abs() - 0.5 * torch.abs(x - 0.2)),
    "sigmoid": lambda: nn.Sequential(_scaled(3), nn.Sigmoid()),
    "tanh": _of(torch.tanh),
    "gelu": lambda: nn.GELU(),
    "silu": _of(functional.silu),
    "elu": lambda: nn.ELU(0.6),
    "elu steep": lambda: nn.ELU(1.5),
    "selu": lambda: nn.SELU(),
    "softplus": lambda: nn.Softplus(2),
    "hard swish": lambda: nn.Sequential(_scaled(4), nn.Hardswish()),
    "log sigmoid": _of(functional.logsigmoid),
    "soft sign": lambda: nn.Softsign(),
    "after pooling": lambda: nn.Sequential(nn.MaxPool2d(2), nn.LeakyReLU(0.3), nn.AvgPool2d(2), nn.GELU()),
}
LAYERS = AFFINE | {
    name: lambda make=make: nn.Sequential(nn.Conv2d(4, 4, 1), make()) for name, make in ACTIVATIONS.items()
}
"""What a ReLU would leave as it is comes after another convolution."""
