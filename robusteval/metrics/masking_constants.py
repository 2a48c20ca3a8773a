"""What the metric `gradient-masking` measures at. Imports no torch: the flags of a report quote these numbers too.

Constants marked "published" are those of the indicators of Pintor et al. (2022), see analysis/masking/signs.py.
"""

PROBABILITIES = 1e-5
"""Ours, that of AutoAttack's own check. How far the sum of outputs may be from 1 to be taken for probabilities."""
UNSTABLE_SAMPLES = 100
"""Published. Noisy copies of an image."""
UNSTABLE_RADIUS = 4 / 255
"""Published (as a cube of side 8/255). Largest change of a pixel by that noise."""
LAST_STEPS = 10
"""Published. Steps at the end of an attack in which its loss should have settled."""
