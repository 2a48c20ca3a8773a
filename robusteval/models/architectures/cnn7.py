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


def cnn7_bn(widths: tuple[int, ...], num_classes: int, input_shape: tuple[int, int, int]) -> nn.Module:
    """The same with batch normalisation between each convolution and its ReLU.

    OpNorm (section 5.1) trains "Convolutional Neural Networks (CNNs) with batch normalization", by default "a 7-layer
    CNN". It gives neither the widths nor where the normalisation stands: the widths are SGR's.
    """
    layers = OrderedDict[str, nn.Module]()
    for name, layer in cnn7(widths, num_classes, input_shape).named_children():
        layers[name] = layer
        if isinstance(layer, nn.Conv2d):
            layers[name.replace("conv", "bn")] = nn.BatchNorm2d(layer.out_channels)
    return nn.Sequential(layers)
