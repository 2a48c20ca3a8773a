"""Two small networks: LeNet (as Moments uses it) and the demo's network for 8x8 digits."""

from __future__ import annotations

from collections import OrderedDict

from torch import nn


def lenet(num_classes: int, input_shape: tuple[int, int, int]) -> nn.Module:
    """LeNet-5 (LeCun et al. 1998) with ReLU and max-pooling; 32x32 after padding the 28x28 of MNIST by two."""
    channels, height, width = input_shape
    flat = 16 * ((height // 2 - 4) // 2) * ((width // 2 - 4) // 2)
    return nn.Sequential(
        OrderedDict(
            conv1=nn.Conv2d(channels, 6, 5, padding=2),
            relu1=nn.ReLU(),
            pool1=nn.MaxPool2d(2),
            conv2=nn.Conv2d(6, 16, 5),
            relu2=nn.ReLU(),
            pool2=nn.MaxPool2d(2),
            flatten=nn.Flatten(),
            dense1=nn.Linear(flat, 120),
            relu3=nn.ReLU(),
            dense2=nn.Linear(120, 84),
            relu4=nn.ReLU(),
            dense3=nn.Linear(84, num_classes),
        )
    )


def digits_cnn(num_classes: int, input_shape: tuple[int, int, int]) -> nn.Module:
    """Two padded convolutions, one pooling, one hidden dense layer: 38,000 weights on 8x8 digits."""
    channels, height, width = input_shape
    return nn.Sequential(
        OrderedDict(
            conv1=nn.Conv2d(channels, 16, 3, padding=1),
            relu1=nn.ReLU(),
            conv2=nn.Conv2d(16, 32, 3, padding=1),
            relu2=nn.ReLU(),
            pool=nn.MaxPool2d(2),
            flatten=nn.Flatten(),
            dense1=nn.Linear(32 * (height // 2) * (width // 2), 64),
            relu3=nn.ReLU(),
            dense2=nn.Linear(64, num_classes),
        )
    )
