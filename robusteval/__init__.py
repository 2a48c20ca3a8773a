"""robusteval: robustness evaluation and certification of trained image classifiers.

import robusteval as rv

result = rv.PGD(norm="linf")(network, images, labels, budget=8 / 255)
run = rv.audit(network, (images, labels), protocol="quick", out="runs/mine")
run.bounds()  # a pandas DataFrame, one row an image

Every attack, certificate, metric and defense has its class here, by its class's name. All is imported when it is used:
importing the package loads no torch.
"""

from __future__ import annotations

import os
from importlib import import_module
from importlib.metadata import version as _version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from robusteval.analysis.coverage import certified_curve
    from robusteval.analysis.curves import accuracy_curve
    from robusteval.analysis.headline import headline, headline_html
    from robusteval.analysis.results import Results
    from robusteval.analysis.summary import summarise
    from robusteval.attacks.base import Attack, FixedBudgetAttack, MinimumDistanceAttack
    from robusteval.auditing.protocol import read_protocol
    from robusteval.auditing.session import run_audit
    from robusteval.auditing.verb import audit
    from robusteval.auditing.verify import verify
    from robusteval.certify.base import Certificate
    from robusteval.cli.progress import Bars
    from robusteval.core.errors import UserError
    from robusteval.core.images import Images
    from robusteval.core.norms import Norm
    from robusteval.core.reading import Reading
    from robusteval.data import read_images
    from robusteval.defenses.base import Defense
    from robusteval.metrics.base import ImageMetric, Metric, SetMetric
    from robusteval.models.checkpoints import open_checkpoint
    from robusteval.models.classifier import Classifier
    from robusteval.models.making import make_classifier
    from robusteval.reports import write_report
    from robusteval.reports.leaderboard import leaderboard, write_board
    from robusteval.reports.leaderboard.drawn import plot_board, plot_board_curves
    from robusteval.reports.notebook import (
        plot_attack,
        plot_certificate,
        plot_curve,
        plot_metric,
        plot_run,
    )
    from robusteval.results.run import Run
    from robusteval.training.loop import train
    from robusteval.training.make import make_model
    from robusteval.training.settings import TrainingSettings

# Idle OpenMP threads that spin while another process wants their core make torch up to 70 times slower (measured on
# two shared cores). This takes effect where torch is not loaded yet; the user's own setting stands.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

_HOMES = {
    "Attack": "attacks.base",
    "Bars": "cli.progress",
    "Certificate": "certify.base",
    "Classifier": "models.classifier",
    "Defense": "defenses.base",
    "FixedBudgetAttack": "attacks.base",
    "ImageMetric": "metrics.base",
    "Images": "core.images",
    "Metric": "metrics.base",
    "MinimumDistanceAttack": "attacks.base",
    "Norm": "core.norms",
    "Reading": "core.reading",
    "Results": "analysis.results",
    "Run": "results.run",
    "SetMetric": "metrics.base",
    "TrainingSettings": "training.settings",
    "UserError": "core.errors",
    "accuracy_curve": "analysis.curves",
    "audit": "auditing.verb",
    "certified_curve": "analysis.coverage",
    "headline": "analysis.headline",
    "headline_html": "analysis.headline",
    "leaderboard": "reports.leaderboard",
    "make_classifier": "models.making",
    "open_checkpoint": "models.checkpoints",
    "make_model": "training.make",
    "plot_attack": "reports.notebook",
    "plot_board": "reports.leaderboard.drawn",
    "plot_board_curves": "reports.leaderboard.drawn",
    "plot_certificate": "reports.notebook",
    "plot_curve": "reports.notebook",
    "plot_metric": "reports.notebook",
    "plot_run": "reports.notebook",
    "read_images": "data",
    "read_protocol": "auditing.protocol",
    "run_audit": "auditing.session",
    "summarise": "analysis.summary",
    "train": "training.loop",
    "verify": "auditing.verify",
    "write_board": "reports.leaderboard",
    "write_report": "reports",
}
"""Where each public name lives."""

__all__ = [
    "Attack",
    "Bars",
    "Certificate",
    "Classifier",
    "Defense",
    "FixedBudgetAttack",
    "ImageMetric",
    "Images",
    "Metric",
    "MinimumDistanceAttack",
    "Norm",
    "Reading",
    "Results",
    "Run",
    "SetMetric",
    "TrainingSettings",
    "UserError",
    "accuracy_curve",
    "audit",
    "certified_curve",
    "headline",
    "headline_html",
    "leaderboard",
    "make_classifier",
    "make_model",
    "open_checkpoint",
    "plot_attack",
    "plot_board",
    "plot_board_curves",
    "plot_certificate",
    "plot_curve",
    "plot_metric",
    "plot_run",
    "read_images",
    "read_protocol",
    "run_audit",
    "summarise",
    "train",
    "verify",
    "write_board",
    "write_report",
]

__version__ = _version("robusteval")


def _methods() -> dict[str, str]:
    """The class of every built-in method by its name, as `module:Class`."""
    from robusteval.attacks import ATTACKS
    from robusteval.certify import CERTIFICATES
    from robusteval.defenses import DEFENSES
    from robusteval.metrics import METRICS

    references = (r for registry in (ATTACKS, CERTIFICATES, METRICS, DEFENSES) for r in registry.builtin.values())
    return {reference.partition(":")[2]: reference for reference in references}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(f"robusteval.{_HOMES[name]}"), name)
    if name in (methods := _methods()):
        from robusteval.core.registry import load

        return load(methods[name])
    raise AttributeError(f"module 'robusteval' has no attribute '{name}'")


def __dir__() -> list[str]:
    """What a user looks for: no names that this file merely imports."""
    return sorted({"__version__", *__all__, *_methods()})
