"""Steps of random networks, planes (N, 3, 4, 4) to planes of that shape: every layer that bounds pass through."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

Step = Callable[[Tensor], Tensor]


def layers() -> dict[str, nn.Module]:
    """Layers with settings, new ones at each call."""
    return {
        "reflect": nn.Conv2d(3, 3, 3, padding=1, padding_mode="reflect"),
        "replicate": nn.Conv2d(3, 3, 3, padding=1, padding_mode="replicate"),
        "circular": nn.Conv2d(3, 3, 3, padding=1, groups=3, padding_mode="circular"),
        "same": nn.Conv2d(3, 3, (2, 4), padding="same"),
        "transposed": nn.ConvTranspose2d(3, 3, 3, padding=1),
        "transposed again": nn.Sequential(nn.MaxPool2d(2), nn.ConvTranspose2d(3, 3, 3, 2, 1, output_padding=1)),
        "along": nn.Sequential(nn.Flatten(2), nn.Conv1d(3, 3, 5, padding=2), nn.Unflatten(2, (4, 4))),
        "across": nn.Linear(4, 4),
        "ceil": nn.Sequential(nn.MaxPool2d(3, 2, ceil_mode=True), nn.Upsample(scale_factor=2)),
        "uncounted": nn.AvgPool2d(3, 1, 1, count_include_pad=False),
        "adaptive": nn.Sequential(nn.AdaptiveAvgPool2d(3), nn.ReplicationPad2d((0, 1, 1, 0))),
        "ceil average": nn.Sequential(nn.AvgPool2d(3, 2, 1, ceil_mode=True), nn.AdaptiveAvgPool2d(4)),
        "padded": nn.Sequential(
            nn.ConstantPad2d(1, 0.3), nn.CircularPad2d((0, 1, -1, 0)), nn.MaxPool2d(3, 1), nn.ZeroPad2d((-1, 0, 1, 0))
        ),
        "shuffled": nn.Sequential(nn.PixelUnshuffle(2), nn.ChannelShuffle(3), nn.PixelShuffle(2)),
        "leaky": nn.LeakyReLU(0.2),
        "leaky in place": nn.LeakyReLU(0.3, inplace=True),
        "prelu": nn.PReLU(3, -0.2),
        "relu6": nn.ReLU6(),
        "hardtanh in place": nn.Hardtanh(-0.4, 0.6, inplace=True),
        "hard sigmoid": nn.Hardsigmoid(),
        "sigmoid": nn.Sigmoid(),
        "gelu": nn.GELU(),
        "silu in place": nn.SiLU(inplace=True),
        "elu": nn.ELU(0.7),
        "selu": nn.SELU(),
        "softplus": nn.Softplus(),
        "hard swish": nn.Hardswish(),
        "log sigmoid": nn.LogSigmoid(),
        "soft sign": nn.Softsign(),
    }


def _swapped(h: Tensor) -> Tensor:
    upper, lower = h.chunk(2, 2)
    return torch.cat([lower, upper], 2)


def _shifted(h: Tensor) -> Tensor:
    first, rest = h.split([1, 2], 1)
    return torch.cat([rest, first], 1)


FUNCTIONS: dict[str, Step] = {
    "transpose": lambda h: h.transpose(2, 3),
    "turned": lambda h: h.flip(1).roll(1, 3).permute(0, 1, 3, 2),
    "indices": lambda h: h[:, [2, 0, 0]],
    "swapped": _swapped,
    "shifted": _shifted,
    "cropped": lambda h: functional.pad(h[:, :, 1:, ::2], (1, 1, 0, 1), mode="replicate"),
    "repeated": lambda h: functional.adaptive_max_pool2d(h, 2).repeat(1, 1, 2, 2),
    "less mean": lambda h: h - h.mean((2, 3), keepdim=True).expand(-1, -1, 4, 4),
    "plus sum": lambda h: h + 0.1 * h.sum(1, keepdim=True).expand(-1, 3, -1, -1),
    "less highest": lambda h: h - functional.interpolate(h.amax((2, 3), keepdim=True), size=(4, 4)),
    "clamp": lambda h: h.clamp(-0.5, 0.5),
    "clamp_": lambda h: h.clamp_(max=0.5),
    "absolute": lambda h: h.abs() - 0.3,
    "tanh": lambda h: torch.tanh(h),
    "tanh_": lambda h: h.tanh_(),
    "sigmoid_": lambda h: h.sigmoid_(),
    "from one": lambda h: 1 - h,
    "negative": lambda h: -h,
}
TWO: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "minus": lambda a, b: a - b,
    "weighted": lambda a, b: torch.sub(a, b, alpha=0.4),
    "sub_": lambda a, b: a.sub_(b),
    "beside": lambda a, b: torch.cat([a[:, :, :2], b[:, :, 1:3]], 2),
}
REFUSED: dict[str, Step] = {
    "softmax": lambda h: h.softmax(1),
    "group norm": lambda h: functional.group_norm(h, 3),
    "square": lambda h: h * h,
    "across images": lambda h: h + h.flip(0),
}
