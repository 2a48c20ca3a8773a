"""Sanity: do the data, the labels and the settings fit the model at all? What a run warns of before the first attack.

Computed from the tables alone; imports no torch.
"""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from robusteval.sanity import inputs, labels
from robusteval.sanity.warning import SanityWarning

__all__ = ["SanityWarning", "sanity_warnings"]


def sanity_warnings(
    images: pd.DataFrame, statistics: pd.DataFrame, num_classes: int, class_names: Sequence[str] = ()
) -> tuple[SanityWarning, ...]:
    """All warnings about a run: `images` is its table of that name, `statistics` are the rows of its sanity stage,
    `class_names` one a class or none. The gravest come first."""
    names = list(class_names) if len(class_names) == num_classes else [str(k) for k in range(num_classes)]
    return (
        *inputs.constant_outputs(statistics),
        *labels.permuted(images, names),
        *labels.guessing(images, num_classes),
        *labels.one_class(images, names),
        *inputs.units(statistics),
        *inputs.standardised(statistics),
        *inputs.dark(statistics),
    )
