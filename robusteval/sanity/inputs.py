"""Images and normalisations that do not fit each other, and outputs that do not see the images."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from robusteval.sanity.warning import SanityWarning

CONSTANT = 1e-6
"""Ours. Outputs that differ by less of their size, between images, are the same."""
FAR = 3.0
"""Ours. Standardised images of a data set have means near 0; further away than this, they are other images."""
SPREADS = (0.1, 5.0)
"""Ours. And standard deviations near 1; outside this range likewise."""
DARK = 0.05
"""Ours. A data set whose brightest pixel is below this was scaled twice: 1/255 where 1 was meant."""
_UNITS = "Pixels here lie in [0, 1]: divide --mean and --std by 255."


def constant_outputs(statistics: pd.DataFrame) -> Iterator[SanityWarning]:
    """Outputs that are the same for every image."""
    found = _values(statistics, "output_range")
    if len(found) and found[0] <= CONSTANT:
        yield SanityWarning(
            "constant-outputs",
            "The outputs do not depend on the image",
            f"Between images no logit changes by more than {found[0]:.1g} of its size.",
            "Check that the weights are trained ones, and that nothing in front of the network removes the image.",
        )


def units(statistics: pd.DataFrame) -> Iterator[SanityWarning]:
    """A mean or a standard deviation that pixels in [0, 1] cannot have."""
    mean, std = _values(statistics, "mean"), _values(statistics, "std")
    if (np.abs(mean) > 1).any() or (std > 1).any():
        yield SanityWarning(
            "normalisation-units",
            "The normalisation looks like one for pixels from 0 to 255",
            f"mean {_listed(mean)}, std {_listed(std)}: no data with pixels in [0, 1] have them.",
            f"{_UNITS} A mean of 125 is then 0.49.",
        )


def standardised(statistics: pd.DataFrame) -> Iterator[SanityWarning]:
    """Images that are not what the normalisation was computed from."""
    mean, std = _values(statistics, "mean"), _values(statistics, "std")
    centre, spread = _values(statistics, "standardised_mean"), _values(statistics, "standardised_std")
    if not len(centre) or _identity(mean, std):
        return
    low, high = SPREADS
    if (np.abs(centre) > FAR).any() or (spread < low).any() or (spread > high).any():
        yield SanityWarning(
            "standardised-range",
            "The images are not in the range that the normalisation suggests",
            f"After (x - mean) / std the channels have mean {_listed(centre)} and standard deviation "
            f"{_listed(spread)}, not about 0 and 1.",
            f"{_UNITS} Check too that the images were not normalised already.",
        )


def dark(statistics: pd.DataFrame) -> Iterator[SanityWarning]:
    """Images that are all but black."""
    found = _values(statistics, "brightest")
    if len(found) and found[0] < DARK:
        yield SanityWarning(
            "dark-images",
            "The images are all but black",
            f"The brightest pixel of all is {found[0]:.3g}, with pixels in [0, 1].",
            "Check that the images were not divided by 255 twice.",
        )


def _values(statistics: pd.DataFrame, quantity: str) -> NDArray[np.float64]:
    rows = statistics[statistics["quantity"] == quantity].sort_values("at")
    return rows["value"].to_numpy(np.float64)


def _identity(mean: NDArray[np.float64], std: NDArray[np.float64]) -> bool:
    """Whether nothing is normalised."""
    return bool((mean == 0).all() and (std == 1).all())


def _listed(values: NDArray[np.float64]) -> str:
    return ", ".join(f"{v:.3g}" for v in values)
