"""From where on outputs count as different. Imports no torch: reports quote these numbers too."""

RANDOM = 1e-4
"""Ours. Change of a logit between evaluations, relative to the largest: a thousand times the rounding of float32."""
ALONE = 1e-3
"""Ours. The same between an image by itself and in a batch, which are computed in another order."""
