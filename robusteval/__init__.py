"""robusteval: robustness evaluation and certification of trained image classifiers.

from robusteval import open_checkpoint, read_images, run_audit

images = read_images("digits", limit=100)
model = open_checkpoint("model.safetensors", "digits-cnn", input_shape=images.shape)
run = run_audit(model, images, "quick", out="runs/model")
run.bounds()  # a pandas DataFrame, one row an image
"""

from __future__ import annotations

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from robusteval.auditing.protocol import read_protocol
    from robusteval.auditing.session import run_audit
    from robusteval.auditing.verify import verify
    from robusteval.core.errors import UserError
    from robusteval.core.images import Images
    from robusteval.core.norms import Norm
    from robusteval.data import read_images
    from robusteval.models.checkpoints import open_checkpoint
    from robusteval.models.classifier import Classifier, make_classifier
    from robusteval.reports import summarise, write_report
    from robusteval.results.run import Run

# Idle OpenMP threads that spin while another process wants their core make torch up to 70 times slower (measured on
# two shared cores). This takes effect where torch is not loaded yet; the user's own setting stands.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

_HOMES = {
    "Classifier": "models.classifier",
    "Images": "core.images",
    "Norm": "core.norms",
    "Run": "results.run",
    "UserError": "core.errors",
    "make_classifier": "models.classifier",
    "open_checkpoint": "models.checkpoints",
    "read_images": "data",
    "read_protocol": "auditing.protocol",
    "run_audit": "auditing.session",
    "summarise": "analysis.summary",
    "verify": "auditing.verify",
    "write_report": "reports",
}
"""Where each public name lives: looked up when it is first used, so that importing the package loads no torch."""

__all__ = [
    "Classifier",
    "Images",
    "Norm",
    "Run",
    "UserError",
    "make_classifier",
    "open_checkpoint",
    "read_images",
    "read_protocol",
    "run_audit",
    "summarise",
    "verify",
    "write_report",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'robusteval' has no attribute '{name}'")
    return getattr(import_module(f"robusteval.{_HOMES[name]}"), name)
