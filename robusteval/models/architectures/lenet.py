"""LeNet in two sizes: the wide one of Madry et al. (2018), also as Moments orders it, and LeNet-5 (LeCun 1998)."""

from __future__ import annotations

from collections import OrderedDict

from torch import nn


def lenet(num_classes: int, input_shape: tuple[int, int, int]) -> nn.Module:
    """Two padded 5x5 convolutions of 32 and 64 maps, each with ReLU and max-pooling, one hidden dense layer of 1,024
    and the logits: the network of Madry et al. (2018, section 5) for MNIST.

    SmoothKernels trains "two convolutional layers and two fully connected layers" (appendix A) by their attack and
    gives no sizes, so that its network is this one too. Moments' is `moments_lenet`.
    """
    channels, height, width = input_shape
    return nn.Sequential(
        OrderedDict(
            conv1=nn.Conv2d(channels, 32, 5, padding=2),
            relu1=nn.ReLU(),
            pool1=nn.MaxPool2d(2),
            conv2=nn.Conv2d(32, 64, 5, padding=2),
            relu2=nn.ReLU(),
            pool2=nn.MaxPool2d(2),
            flatten=nn.Flatten(),
            dense1=nn.Linear(64 * (height // 4) * (width // 4), 1024),
            relu3=nn.ReLU(),
            dense2=nn.Linear(1024, num_classes),
        )
    )


def moments_lenet(num_classes: int, input_shape: tuple[int, int, int]) -> nn.Module:
    """What Moments (section 4) says of its LeNet: the first layer is a convolution followed by ReLU, the other pooling
    stands before its ReLU, there is no dropout, and the first dense layer takes 3,136 values of 28x28 images and 4,096
    of 32x32, which are 64 maps of 7x7 and 8x8.

    What it does not say is that of `lenet`, which takes as many values: 32 maps of the first convolution, a hidden
    layer of 1,024. Max-pooling and ReLU commute, so that the two compute the same function of the same weights; the
    metrics of the first ReLU and bounds that go layer by layer see another network.
    """
    layers = dict(lenet(num_classes, input_shape).named_children())
    names = list(layers)
    relu, pool = names.index("relu2"), names.index("pool2")
    names[relu], names[pool] = names[pool], names[relu]
    return nn.Sequential(OrderedDict((name, layers[name]) for name in names))


def lenet5(num_classes: int, input_shape: tuple[int, int, int]) -> nn.Module:
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
