"""The random twin: the same network with freshly initialised weights, to compare a trained one with."""

from __future__ import annotations

import copy
from dataclasses import replace

import torch

from robusteval.core.errors import UnsupportedError
from robusteval.models.classifier import Classifier


def random_twin(classifier: Classifier, seed: int = 0) -> Classifier:
    """The classifier with freshly initialised weights, by its layers' own `reset_parameters`, the same for a seed.

    Its normalisation stays, running statistics of batch normalisation start anew, its evaluations are booked to the
    same images. Raises UnsupportedError where a layer with weights cannot be initialised again (a traced program).
    """
    module = copy.deepcopy(classifier.module)
    # Drawn on the CPU in float32, so that neither device nor dtype changes the twin.
    module.to("cpu", torch.float32)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for name, layer in module.named_modules():
            reset = getattr(layer, "reset_parameters", None)
            if callable(reset):
                reset()
            elif next(layer.parameters(recurse=False), None) is not None:
                raise UnsupportedError(
                    f"expected layers that can be initialised again for a random twin of {classifier.name}, got "
                    f"{type(layer).__name__} '{name}'"
                )
    example = next(iter(classifier.module.state_dict().values()))
    module.eval().requires_grad_(False).to(example.device, classifier.dtype)
    return replace(classifier, name=f"{classifier.name}, random", module=module)
