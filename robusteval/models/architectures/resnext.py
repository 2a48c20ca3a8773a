"""ResNeXt-34 (2x32) for 32x32 images, the CIFAR-10 network of GradReg (section 4).

The paper gives the name alone; the rest follows what its authors published (github.com/cfinlay/tulip). The 34 layers
are the first convolution, two in each block of three stages of five, a convolution before the second and the third
stage, and the logits. Three things differ from that code, whose checkpoints do not fit: batch normalisation has its
usual scale everywhere; the branches are modules of their own instead of halves of a grouped convolution; the logits are
affine, where that code ends in batch normalisation and ReLU.
"""

from __future__ import annotations

from torch import Tensor, nn


def _normalised(inputs: int, outputs: int, kernel: int) -> list[nn.Module]:
    return [nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=False), nn.BatchNorm2d(outputs)]


class _Branches(nn.Module):
    """The mean of two branches of two 3x3 convolutions, beside the identity."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.branch1, self.branch2 = (
            nn.Sequential(*_normalised(width, width, 3), nn.ReLU(), *_normalised(width, width, 3)) for _ in range(2)
        )
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        mean = (self.branch1(x) + self.branch2(x)) / 2
        answer: Tensor = self.relu(x + mean)
        return answer


class ResNeXt(nn.Module):
    """Three stages of `blocks` blocks, `width` channels and twice as many in each further stage, on half the pixels."""

    def __init__(self, num_classes: int, channels: int = 3, blocks: int = 5, width: int = 32) -> None:
        super().__init__()
        self.first = nn.Sequential(*_normalised(channels, width, 3), nn.ReLU())
        self.stage1 = nn.Sequential(*(_Branches(width) for _ in range(blocks)))
        self.down1 = nn.Sequential(*_normalised(width, 2 * width, 1), nn.ReLU(), nn.AvgPool2d(2))
        self.stage2 = nn.Sequential(*(_Branches(2 * width) for _ in range(blocks)))
        self.down2 = nn.Sequential(*_normalised(2 * width, 4 * width, 1), nn.ReLU(), nn.AvgPool2d(2))
        self.stage3 = nn.Sequential(*(_Branches(4 * width) for _ in range(blocks)))
        self.linear = nn.Linear(4 * width, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stage1(self.first(x))
        x = self.stage2(self.down1(x))
        x = self.stage3(self.down2(x))
        logits: Tensor = self.linear(x.mean((2, 3)))
        return logits


def resnext34(num_classes: int, input_shape: tuple[int, int, int]) -> nn.Module:
    return ResNeXt(num_classes, input_shape[0])
