"""The 7-layer CNN of SGR (appendix 7.4, table 3), after Carlini & Wagner (2017): valid 3x3 convolutions."""

from __future__ import annotations

from collections import OrderedDict

from torch import nn


def cnn7(widths: tuple[int, ...], num_classes: int, input_shape: tuple[int, int, int]) -> nn.Module:
    """Two blocks of two convolutions and a max-pooling, then two hidden dense layers and the logits.

    `widths` are the first six parameters of the paper's table; the seventh is num_classes.
    """
    channels, height, width = input_shape
    a, b, c, d, e, f = widths
    flat = d * ((height - 4) // 2 - 4 >> 1) * ((width - 4) // 2 - 4 >> 1)
    return nn.Sequential(
        OrderedDict(
            conv1=nn.Conv2d(channels, a, 3),
            relu1=nn.ReLU(),
            conv2=nn.Conv2d(a, b, 3),
            relu2=nn.ReLU(),
            pool1=nn.MaxPool2d(2),
            conv3=nn.Conv2d(b, c, 3),
            relu3=nn.ReLU(),
            conv4=nn.Conv2d(c, d, 3),
            relu4=nn.ReLU(),
            pool2=nn.MaxPool2d(2),
            flatten=nn.Flatten(),
            dense1=nn.Linear(flat, e),
            relu5=nn.ReLU(),
            dense2=nn.Linear(e, f),
            relu6=nn.ReLU(),
            dense3=nn.Linear(f, num_classes),
        )
    )
