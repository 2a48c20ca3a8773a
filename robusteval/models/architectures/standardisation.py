"""Per-image standardisation, and the 7-layer CNN behind it (SGR, section 4.1)."""

from __future__ import annotations

from collections import OrderedDict

from torch import Tensor, nn

from robusteval.models.architectures.cnn7 import cnn7


class PerImageStandardisation(nn.Module):
    """Each image to zero mean and unit variance over all of its D values, whichever others share its batch.

    The standard deviation is taken as 1 / sqrt(D) at least: an image of one value becomes zero, with a gradient that
    is finite, and the rounding of a nearly constant one is not blown up. SGR "standardize each image to have zero mean
    and unit variance when passing it to the classifier" and says nothing of such images. No parameters: a checkpoint
    of the network without the layer fits the network with it.
    """

    def forward(self, pixels: Tensor) -> Tensor:
        values = pixels.flatten(1)
        centred = values - values.mean(1, keepdim=True)
        variance = centred.square().mean(1, keepdim=True).clamp_min(1 / values.shape[1])
        return (centred / variance.sqrt()).view_as(pixels)


def cnn7_standardised(widths: tuple[int, ...], num_classes: int, input_shape: tuple[int, int, int]) -> nn.Module:
    """`cnn7` of standardised images, as SGR trains it: the layers of the same names behind the standardisation."""
    layers = cnn7(widths, num_classes, input_shape).named_children()
    return nn.Sequential(OrderedDict[str, nn.Module]([("standardisation", PerImageStandardisation()), *layers]))
