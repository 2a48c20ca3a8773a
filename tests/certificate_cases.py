"""The one table of certificates: a cheap setting of each, and how close to the exact distance it must come.

A new certificate needs an entry here; tests/certify/test_certificate_strength.py holds it to that.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

from oracles import interior
from robusteval.certify import CERTIFICATES
from robusteval.certify.base import Certificate, Radii, State
from robusteval.certify.extreme_value.omega_bound import GRIDS
from robusteval.core.images import Images
from robusteval.core.norms import Norm
from robusteval.core.streams import Streams
from robusteval.models.classifier import Classifier

Settings = Mapping[str, Any]


@dataclass(frozen=True)
class CertificateCase:
    """What the tests know of a certificate."""

    must: float
    """On the affine oracle of two classes, whose walls are far away, the median radius must be so large a part of the
    exact distance, in each of its norms and for each seed: measured, and some room left."""
    fast: Settings = field(default_factory=dict)
    """For what does not depend on how close it comes."""
    own: Mapping[Norm, Settings] = field(default_factory=dict)
    """What `fast` has besides in some norms."""
    settings: Settings | None = None
    """As the test of its strength uses it; `fast` where there are none."""


SMOOTHED = {"n": 100, "n0": 20, "alpha": 0.01}
GRID = {norm: {"grid": tuple(g / 4 for g in grid[:2])} for norm, grid in GRIDS.items()}

CERTIFICATE_CASES: dict[str, CertificateCase] = {
    "beta-crown": CertificateCase(0.99, {"domains": 20, "steps": 20}),
    "clever": CertificateCase(0.99, {"batches": 12, "samples": 5}),
    "crown": CertificateCase(0.98),
    "ibp": CertificateCase(0.98),
    "l-bound": CertificateCase(0.99, {"refits": 20}, settings={"scores": "logits", "refits": 1}),
    "lipschitz": CertificateCase(0.98),
    "omega-bound": CertificateCase(
        0.99,
        {"batches": 30, "steps": 2, "climbers": 2, "refits": 9},
        GRID,
        {"scores": "logits", "batches": 30, "steps": 1, "refits": 1},
    ),
    "smoothing": CertificateCase(0.7, SMOOTHED, settings={"sigma": 0.12, "n": 1000}),
    "smoothing-envelope": CertificateCase(
        0.7, {**SMOOTHED, "sigmas": (0.1, 0.25)}, settings={"sigmas": (0.06, 0.12), "n": 1000}
    ),
    "smoothing-sequential": CertificateCase(
        0.7, {**SMOOTHED, "n": 500, "precision": 0.3}, settings={"sigma": 0.12, "n": 2000, "precision": 0.1}
    ),
}

CASES = [(name, norm) for name, certificate in CERTIFICATES.items() for norm in certificate.norms]


def case_of(name: str) -> CertificateCase:
    """The entry of a certificate; AssertionError says what to add where there is none."""
    assert name in CERTIFICATE_CASES, (
        f"expected an entry for '{name}' in CERTIFICATE_CASES of tests/certificate_cases.py: "
        "CertificateCase(part, settings), how large a part of the exact distance it must certify"
    )
    return CERTIFICATE_CASES[name]


def small(name: str, norm: Norm) -> Certificate:
    """A cheap setting."""
    case = case_of(name)
    return CERTIFICATES[name].model_validate({"norm": norm, **case.fast, **case.own.get(norm, {})})


def strong(name: str, norm: Norm) -> Certificate:
    """With the settings of the test of its strength."""
    case = case_of(name)
    settings = case.fast if case.settings is None else case.settings
    return CERTIFICATES[name].model_validate({"norm": norm, **settings})


def run(certificate: Certificate, classifier: Classifier, images: Images) -> tuple[State, Radii]:
    """As the audit does: prepared on images sorted by id, radii with a stream an image."""
    classifier = classifier if len(classifier.rows) == len(images) else classifier.metered(len(images))
    of_set = Streams.for_set(1, certificate.label, images.pixels)
    state = certificate.prepare(classifier, images.by_id(), of_set, ignore)
    of_images = Streams.for_images(1, certificate.label, images.ids, images.pixels)
    return state, certificate.radii(classifier, images, state, of_images)


def ignore(done: int, total: int) -> None:
    assert 0 < done <= total


def certified_part(certificate: Certificate, seed: int) -> float:
    """How large a part of the exact distance it certifies on the affine oracle of a seed, the median over the images
    that it does not get wrong."""
    classifier, images, exact = interior(certificate.norm, seed)
    _, radii = run(certificate, classifier, images)
    return float((radii.radius / torch.from_numpy(exact)).median())
