"""The demo's network for scikit-learn's 8x8 digits."""

from __future__ import annotations

from collections import OrderedDict

from torch import nn


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
