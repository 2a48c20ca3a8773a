"""The envelope over several sigmas."""

from __future__ import annotations

import numpy as np
import torch

from robusteval.certify.smoothing.envelope import SmoothingEnvelope
from robusteval.certify.smoothing.fixed import Smoothing
from robusteval.numerics.binomial import certified_radius
from smoothed import certify, kept, linear, window


def test_the_envelope_is_the_largest_radius_and_speaks_for_its_class() -> None:
    """In the window small noise names class 0 with a small radius, large noise class 1 with a large one."""
    classifier, images = window(6)
    certificate = SmoothingEnvelope(sigmas=(0.05, 0.15, 3.0), n0=30, n=2000, alpha=0.03)
    radii = certify(certificate, classifier, images)
    rows = kept(radii)
    each = []
    for sigma, name in zip(certificate.sigmas, (0, 0, 1), strict=True):
        count, samples = rows["smoothing_count", sigma], rows["smoothing_samples", sigma]
        each.append(rows["smoothing_radius", sigma])
        assert np.array_equal(certified_radius(count, samples, 0.01, sigma), each[-1])
        assert (rows["smoothing_class", sigma] == name).all()
        assert (each[-1] > 0).all()
    assert np.array_equal(np.max(each, axis=0), radii.radius.numpy())
    assert (rows["envelope_sigma", 0] == 3.0).all()
    assert (radii.predicted == 1).all()
    assert certificate.subject == "smooth(f, {0.05, 0.15, 3})"
    assert certificate.error_probability == 0.03
    near = certify(certificate.model_copy(update={"sigmas": (0.05, 0.15)}), classifier, images)
    assert (near.predicted == 0).all()


def test_the_envelope_of_one_sigma_is_smoothing() -> None:
    classifier, images, _ = linear(20)
    one = certify(SmoothingEnvelope(sigmas=(0.4,), n=300), classifier, images)
    fixed = certify(Smoothing(sigma=0.4, n=300), classifier, images)
    assert torch.equal(one.radius, fixed.radius)
    assert torch.equal(one.predicted, fixed.predicted)
