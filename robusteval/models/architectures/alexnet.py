"""AlexNet (Krizhevsky et al. 2012) for 32x32 images, as Moments (section 4) alters torchvision's."""

from __future__ import annotations

from collections import OrderedDict

from torch import nn


def alexnet(num_classes: int, input_shape: tuple[int, int, int]) -> nn.Module:
    """Five convolutions, three max-poolings, two hidden dense layers of 4,096 and the logits.

    What Moments changes: 2x2 poolings; padding 5 in the first convolution, so that 32x32 images leave 256 values to
    the first dense layer; pooling before ReLU, but for the first layer, which is a convolution followed by ReLU; no
    dropout. The widths are those of torchvision, which the paper leaves as they are.
    """
    channels, height, width = input_shape
    rows, columns = (((side + 10 - 11) // 4 + 1) // 8 for side in (height, width))
    return nn.Sequential(
        OrderedDict(
            conv1=nn.Conv2d(channels, 64, 11, stride=4, padding=5),
            relu1=nn.ReLU(),
            pool1=nn.MaxPool2d(2),
            conv2=nn.Conv2d(64, 192, 5, padding=2),
            pool2=nn.MaxPool2d(2),
            relu2=nn.ReLU(),
            conv3=nn.Conv2d(192, 384, 3, padding=1),
            relu3=nn.ReLU(),
            conv4=nn.Conv2d(384, 256, 3, padding=1),
            relu4=nn.ReLU(),
            conv5=nn.Conv2d(256, 256, 3, padding=1),
            pool3=nn.MaxPool2d(2),
            relu5=nn.ReLU(),
            flatten=nn.Flatten(),
            dense1=nn.Linear(256 * rows * columns, 4096),
            relu6=nn.ReLU(),
            dense2=nn.Linear(4096, 4096),
            relu7=nn.ReLU(),
            dense3=nn.Linear(4096, num_classes),
        )
    )
