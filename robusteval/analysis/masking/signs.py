"""What the flags of gradient masking mean: their thresholds, mitigations and sources. Imports no torch.

The signs are those of Athalye, Carlini and Wagner (2018), Carlini et al. (2019) and the six indicators of Pintor et
al. (2022). Constants marked "published" are those of the latter's reference implementation where text and code may
differ; the others are ours, and say how they were chosen.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from robusteval.metrics.masking_constants import LAST_STEPS, PROBABILITIES, UNSTABLE_RADIUS
from robusteval.models.tolerances import ALONE, RANDOM

RARE = 0.01
"""Ours. A sign that single images show makes a flag when its share of the images is above this with 95 % confidence
(Clopper-Pearson), so that one odd image of a few makes none. The indicators are published for single images."""
SIGNIFICANT = 0.01
"""Ours. Largest p-value of an exact paired test (McNemar), divided by the number of comparisons (Bonferroni)."""
PLATEAU = 0.1
"""Ours. The error has stopped growing if more than this share falls at a budget and less than this share of the rest
falls at twice that budget or more, both with 95 % confidence."""
MUCH_MORE = 0.02
"""Ours. Share of images that only more steps or restarts fool, with 95 % confidence: a difference of robust accuracy
that is published as progress."""
UNBOUNDED = 0.5
"""Carlini et al. (2019): at Linf 0.5 every image can be turned into the same grey one. In L2 and L1 the radius that
holds the grey image is 0.5 sqrt(D) and 0.5 D."""

CHANGED = 1e-2
"""Ours. Change of an entry of the gradient, relative to the largest: ten thousand times what reordered sums do."""
VANISHING = 1e-30
"""Ours. Of the largest entry of the gradient of the cross-entropy: below it float32, whose smallest normal number is
1.2e-38, begins to lose the entries that are 1e7 times smaller, its relative precision."""

UNSTABLE = 0.1
"""Published, as we remember the paper's text; its implementation leaves the limit to the reader. Mean relative change
of the loss under small uniform noise; we ask it of the median image."""
UNSETTLED = 0.05
"""Published in the implementation. Share of the whole rise of the best loss that falls into the last steps."""


@dataclass(frozen=True)
class Sign:
    """A flag before there is evidence for it. `threshold` and `mitigation` are sentences.

    A serious one says that distances of the run may be far too large; the others name what weakens single attacks.
    """

    severity: Literal["serious", "warning"]
    title: str
    threshold: str
    mitigation: str
    cause: bool = False
    """Whether it is a property of the model that may raise others of these signs by itself."""


_SHARE = f"its share is above {RARE:.0%} with 95 % confidence"

SIGNS = {
    "failed-methods": Sign(
        "serious",
        "Methods stopped with an error",
        "An error in the model or the method ended a stage; the run is incomplete, and failures/ holds the tracebacks.",
        "Mend what the traceback names and run the same command again: it tries these stages once more.",
        cause=True,
    ),
    "random-outputs": Sign(
        "serious",
        "The same image gets different outputs",
        f"Two evaluations differ by more than {RANDOM:g} of the logits that decide; {_SHARE}.",
        "Average over the randomness (--eot 20), or fix the model's seed. Distances of this run depend on the draws.",
        cause=True,
    ),
    "differing-repetition": Sign(
        "serious",
        "The same computation gives different results",
        "Two shards of an audit are computed twice, with the same seeds; a value of an image changes by more than the "
        "tolerance of a verification, 1e-3 of it in float32 and 1e-8 in float64.",
        "Draw random numbers from the streams that a method is given, or from torch's seeded generator; switch off "
        "nondeterministic kernels. What this run found cannot be found again.",
        cause=True,
    ),
    "batch-dependent-outputs": Sign(
        "serious",
        "An image's outputs depend on the other images of its batch",
        f"A logit differs by more than {ALONE:g} of the logits that decide between an image by itself and in a batch.",
        "Keep running statistics (track_running_stats, eval mode), or mind the batches of the deployment: a bound for "
        "one image says nothing of a batch.",
        cause=True,
    ),
    "non-finite-outputs": Sign(
        "serious",
        "The model gives no finite answer to perturbed images",
        "An answer with NaN or infinite logits names no class: it neither fools nor is right.",
        "Find what makes them: a check of the input, or an operation that leaves its domain (roots, logarithms, powers "
        "of negative numbers, overflow). Until then robust images may be ones that the model cannot answer.",
        cause=True,
    ),
    "unavailable-gradients": Sign(
        "serious",
        "Unavailable gradients (indicator 1)",
        f"The model does not let gradients through, or the gradient at an image is zero everywhere, of the "
        f"cross-entropy and of the margin; {_SHARE}.",
        "Replace what has no derivative by a smooth stand-in on the way back (BPDA); add attacks without gradients.",
        cause=True,
    ),
    "non-finite-gradients": Sign(
        "serious",
        "Gradients are not finite",
        f"A gradient had NaN or infinite entries, which the attacks took for zero; {_SHARE}.",
        "Replace the operation by one with a finite derivative (sqrt(x + tiny), a clamp); believe the attacks without "
        "gradients meanwhile.",
        cause=True,
    ),
    "random-gradients": Sign(
        "serious",
        "The same image gets different gradients",
        f"An entry of the margin's gradient differs by more than {CHANGED:g} of the largest one when it is computed "
        f"again, though the outputs do not; {_SHARE}.",
        "Look for a backward pass that was replaced or made noisy; attack with the true derivative, or without one.",
        cause=True,
    ),
    "gradient-free-wins": Sign(
        "serious",
        "An attack without gradients beats those with gradients",
        f"More images are fooled without gradients only than with gradients only (exact McNemar test, p at "
        f"most {SIGNIFICANT:g} over the number of comparisons).",
        "Attack the model adaptively: a differentiable stand-in for its preprocessing (BPDA), the margin or DLR loss, "
        "more steps. Until then quote the attack without gradients.",
    ),
    "transfer-wins": Sign(
        "serious",
        "Attacks on another model beat those on the model itself",
        f"More images are fooled by transfer only than by gradients of the model only (exact McNemar test, p "
        f"at most {SIGNIFICANT:g} over the number of comparisons).",
        "The source's gradients are better than the model's own: use them in its place (BPDA), or start the attack at "
        "the transferred images.",
    ),
    "square-finds-more": Sign(
        "warning",
        "Square fools what the other stages of auto did not",
        f"An image falls to the last stage of auto, which uses no gradients, after the others failed; {_SHARE}.",
        "More iterations and restarts of APGD; if that does not help, an adaptive attack (BPDA, another loss).",
    ),
    "error-stalls": Sign(
        "serious",
        "The error does not grow with the budget",
        f"More than {PLATEAU:.0%} of the images fall at a budget and fewer than {PLATEAU:.0%} of the others at twice "
        f"that or more, both with 95 % confidence; or more fall at a quarter of a budget only than at the budget only "
        f"(exact McNemar test, p at most {SIGNIFICANT:g}).",
        "Look at the loss along an attack at the larger budget; scale its step with the budget; try the margin loss.",
    ),
    "more-finds-more": Sign(
        "warning",
        "More steps or restarts still find much more",
        f"Above {MUCH_MORE:.0%} of the images are fooled only by more steps or restarts, with 95 % confidence.",
        "Raise steps and restarts until the error stands still, or run auto, which adapts its step.",
    ),
    "vanishing-gradients": Sign(
        "warning",
        "Gradients vanish or are not finite",
        f"At an image the largest entry of the gradient of the cross-entropy is below {VANISHING:g} or not finite; "
        f"{_SHARE}.",
        "Attack with the margin or DLR loss, on logits, before any softmax or temperature; audit in float64.",
    ),
    "probability-outputs": Sign(
        "warning",
        "The outputs are already probabilities",
        f"The outputs for every image are non-negative and sum to 1 within {PROBABILITIES:g}.",
        "Audit the network without its last softmax: a second softmax inside the cross-entropy flattens the loss.",
    ),
    "unstable-predictions": Sign(
        "serious",
        "Unstable predictions (indicator 2)",
        f"Uniform noise of up to {UNSTABLE_RADIUS * 255:.0f}/255 changes the margin of the median image by more than "
        f"{UNSTABLE:.0%} on average, with 95 % confidence.",
        "Average the gradient over noise around each iterate (EOT, or a smoothed loss); take larger steps.",
    ),
    "silent-success": Sign(
        "warning",
        "Silent success (indicator 3)",
        f"An ascent passed a misclassified image and ended on one that is not; {_SHARE}.",
        "Keep the best image of the whole path. The attacks of this toolkit do; one that you add may not.",
    ),
    "incomplete-optimisation": Sign(
        "warning",
        "Incomplete optimisation (indicator 4)",
        f"Of an ascent that failed, more than {UNSETTLED:.0%} of the rise of the best loss fell into the last "
        f"{LAST_STEPS} steps; {_SHARE}.",
        "More steps, or another step size; compare more-finds-more.",
    ),
    "transfer-failure": Sign(
        "serious",
        "Transfer failure (indicator 5)",
        f"An image that was misclassified when the attack saw it is not when it is evaluated again; {_SHARE}.",
        "Attack the same thing that is judged: all of its preprocessing and detectors, with its randomness averaged.",
    ),
    "unconstrained-attack-failure": Sign(
        "serious",
        "Unconstrained attack failure (indicator 6)",
        f"An attack that may change the image at will does not fool it; {_SHARE}.",
        "Something hides the way out: change the loss, the start and the step size until every image falls, and only "
        "then read the smaller budgets.",
    ),
}
