"""What the L-bound and the omega-bound share: other losses, the norms that are kept, how far a fit can be trusted."""

from __future__ import annotations

from typing import Literal

import numpy as np
import pytest
import torch
from torch import nn

from certificate_cases import run, small
from certifying import F64, SHAPE, images_of, linear_two_class, random_images, small_net
from oracles import affine, affine_distances
from oracles import random_images as oracle_images
from robusteval.certify import CERTIFICATES
from robusteval.certify.extreme_value.gev import fit
from robusteval.certify.extreme_value.goodness import standard_errors
from robusteval.certify.extreme_value.l_bound import LBound
from robusteval.certify.extreme_value.omega_bound import OmegaBound
from robusteval.core.norms import BALLS, Norm
from robusteval.models.making import make_classifier


@pytest.mark.parametrize("norm", BALLS)
def test_both_bounds_are_exact_on_two_affine_logits(norm: Norm) -> None:
    """The loss of logits is affine: its slope is |w|_* everywhere, and it departs from its linear model by rounding."""
    classifier, w, b = linear_two_class()
    images = random_images(60)
    z = images.pixels.flatten(1) @ w + b
    images = images_of(images.pixels, (z > 0).long())
    exact = z.abs() / norm.dual.size(w[None])
    grid = tuple(np.linspace(0, 1.01 * float(exact.max()), 4)[1:].tolist())
    _, of_l = run(LBound(norm=norm, scores="logits"), classifier, images)
    state, of_omega = run(OmegaBound(norm=norm, scores="logits", grid=grid, batches=10, refits=1), classifier, images)
    omega = [s.value for s in state if s.quantity == "omega"]
    assert len(omega) == 3
    assert max(omega) < 1e-9
    for radii in (of_l, of_omega):
        assert torch.allclose(radii.radius, exact, rtol=1e-9, atol=1e-9)
        assert torch.equal(radii.predicted, images.labels)


def test_of_more_affine_logits_omega_is_not_negative() -> None:
    """The largest of affine functions is convex: it never departs downwards, and does so upwards past a kink."""
    model, weight, bias = affine(1)
    classifier = model.to("cpu", F64)
    images = oracle_images(2, 40, model).to("cpu", F64)
    certificate = OmegaBound(norm=Norm.LINF, scores="logits", grid=(0.05, 0.4), batches=12, refits=1)
    state, radii = run(certificate, classifier, images)
    assert all(s.value >= -1e-12 for s in state if s.quantity == "omega_maximum")
    assert all(s.value > 0.1 for s in state if s.quantity == "omega")
    exact = affine_distances(weight, bias, images, Norm.LINF)
    assert (radii.radius.numpy() <= exact + 1e-9).all()
    assert (radii.radius > 0).any()


@pytest.mark.parametrize("name", ["l-bound", "omega-bound"])
def test_top_k_bounds_speak_of_top_k_correctness(name: str) -> None:
    classifier, images = small_net(), random_images(30, classes=3)
    first = run(CERTIFICATES[name].model_validate(small(name, Norm.L2).model_dump()), classifier, images)[1]
    certificate = CERTIFICATES[name].model_validate(small(name, Norm.L2).model_dump() | {"top": 2})
    assert certificate.subject == "top-2(f)"
    assert small(name, Norm.L2).subject == "f"
    _, radii = run(certificate, classifier, images)
    logits = classifier.predict(images.pixels)
    least = logits.argmin(1) == images.labels
    second = ~least & (logits.argmax(1) != images.labels)
    assert least.any()
    assert second.any()
    assert (radii.radius[least] == 0).all()
    assert (first.radius[second] == 0).all()
    if name == "l-bound":
        assert (radii.radius[~least] > 0).all()
    certified = radii.radius > 0
    assert certified.any()
    assert torch.equal(radii.predicted[certified], images.labels[certified])
    assert torch.equal(radii.predicted[least], logits.argmax(1)[least])


@pytest.mark.parametrize("name", ["l-bound", "omega-bound"])
@pytest.mark.parametrize("scores", ["logits", "probabilities"])
def test_the_gradient_norm_of_each_image_is_kept(name: str, scores: Literal["logits", "probabilities"]) -> None:
    classifier, images = small_net(), random_images(10, classes=3)
    settings_of = small(name, Norm.L1).model_dump() | {"scores": scores}
    _, radii = run(CERTIFICATES[name].model_validate(settings_of), classifier, images)
    ((quantity, at, norms),) = radii.measurements
    assert (quantity, at) == ("gradient_norm", 0)
    for i in range(3):
        x = images.pixels[i : i + 1].clone().requires_grad_()
        f = classifier(x)[0] if scores == "logits" else classifier(x)[0].softmax(0)
        label = int(images.labels[i])
        (max(f[j] for j in range(3) if j != label) - f[label]).backward()
        assert x.grad is not None
        assert float(norms[i]) == pytest.approx(float(x.grad.abs().max()), rel=1e-9)


def test_the_statistics_say_how_far_a_fit_can_be_trusted() -> None:
    state, _ = run(LBound(norm=Norm.L2, batch=20, refits=19), small_net(), random_images(800, classes=3))
    values = {s.quantity: s.value for s in state if s.quantity != "maximum"}
    maxima = np.array([s.value for s in state if s.quantity == "maximum"])
    errors = [values[f"{name}_error"] for name in ("gev_shape", "gev_loc", "gev_scale", "quantile")]
    assert errors == pytest.approx(standard_errors(maxima, fit(maxima, 0.001), 0.001), nan_ok=True)
    assert (20 * values["fit_p_value"]) == pytest.approx(round(20 * values["fit_p_value"]))
    assert 0 < values["fit_p_value"] <= 1


def test_l_bound_of_a_constant_network_certifies_nothing() -> None:
    layer = nn.Linear(16, 2)
    nn.init.zeros_(layer.weight)
    classifier = make_classifier("constant", nn.Sequential(nn.Flatten(), layer), SHAPE).to("cpu", F64)
    for certificate in (LBound(norm=Norm.L2), OmegaBound(norm=Norm.L2, grid=(0.1,))):
        _, radii = run(certificate, classifier, random_images(20))
        assert radii.radius.isfinite().all()
