"""WRN-28-10 for 32x32 images (Zagoruyko & Komodakis 2016), the larger network of OpNorm (section 5.1).

Pre-activation blocks without dropout, with the parameter names that public CIFAR-10 checkpoints commonly use: conv1,
block1.layer.0.bn1, block1.layer.0.convShortcut, ..., bn1, fc.
"""

from __future__ import annotations

from torch import Tensor, nn


class _PreActivation(nn.Module):
    """Two 3x3 convolutions, each after batch normalisation and ReLU, beside a shortcut.

    Where the width changes, the shortcut is a 1x1 convolution of the normalised input; else it is the input itself.
    """

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(inputs)
        self.relu1 = nn.ReLU()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.relu2 = nn.ReLU()
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        widens = inputs != outputs
        self.convShortcut = nn.Conv2d(inputs, outputs, 1, stride, bias=False) if widens else None

    def forward(self, x: Tensor) -> Tensor:
        active = self.relu1(self.bn1(x))
        inner: Tensor = self.conv2(self.relu2(self.bn2(self.conv1(active))))
        return inner + (x if self.convShortcut is None else self.convShortcut(active))


class _Stage(nn.Module):
    """`blocks` blocks, of which the first changes the width and takes the stride."""

    def __init__(self, blocks: int, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        first = _PreActivation(inputs, outputs, stride)
        self.layer = nn.Sequential(first, *(_PreActivation(outputs, outputs, 1) for _ in range(blocks - 1)))

    def forward(self, x: Tensor) -> Tensor:
        answer: Tensor = self.layer(x)
        return answer


class WideResNet(nn.Module):
    """`depth` layers: three stages of 16, 32 and 64 times `widen` channels; batch normalisation and ReLU at the end."""

    def __init__(self, num_classes: int, channels: int = 3, depth: int = 28, widen: int = 10) -> None:
        super().__init__()
        blocks, a, b, c = (depth - 4) // 6, 16 * widen, 32 * widen, 64 * widen
        self.conv1 = nn.Conv2d(channels, 16, 3, padding=1, bias=False)
        self.block1 = _Stage(blocks, 16, a, 1)
        self.block2 = _Stage(blocks, a, b, 2)
        self.block3 = _Stage(blocks, b, c, 2)
        self.bn1 = nn.BatchNorm2d(c)
        self.relu = nn.ReLU()
        self.fc = nn.Linear(c, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.block3(self.block2(self.block1(self.conv1(x))))
        logits: Tensor = self.fc(self.relu(self.bn1(x)).mean((2, 3)))
        return logits


def wrn28(num_classes: int, input_shape: tuple[int, int, int]) -> nn.Module:
    return WideResNet(num_classes, input_shape[0])
