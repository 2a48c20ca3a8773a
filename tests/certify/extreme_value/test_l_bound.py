"""The L-bound against a model whose steepest slope is known."""

from __future__ import annotations

import pytest
import torch
from scipy.stats import genextreme

from certificate_cases import run
from certifying import SHAPE, images_of, linear_two_class, random_images, small_net
from robusteval.certify.extreme_value.gev import Fit
from robusteval.certify.extreme_value.l_bound import LBound
from robusteval.certify.extreme_value.loss import slopes
from robusteval.core.norms import BALLS, Norm


@pytest.mark.parametrize("norm", BALLS)
def test_l_bound_is_below_the_distance_once_the_steepest_point_was_seen(norm: Norm) -> None:
    """The slope is largest, |w|_* / 2, on the boundary; an image there makes L a Lipschitz constant."""
    classifier, w, b = linear_two_class()
    images = random_images(60)
    x = images.pixels.flatten(1)
    x[0] -= w * (x[0] @ w + b) / (w @ w)
    z = x @ w + b
    images = images_of(x.view(-1, *SHAPE), (z > 0).long())
    state, radii = run(LBound(norm=norm), classifier, images)
    values = {s.quantity: s.value for s in state if s.quantity != "maximum"}
    steepest = float(norm.dual.size(w[None])) / 2
    assert values["observed_maximum"] == pytest.approx(steepest, rel=1e-9)
    assert values["L"] >= values["observed_maximum"]
    assert len([s for s in state if s.quantity == "maximum"]) == 50
    exact = z.abs() / (2 * steepest)
    assert (radii.radius <= exact + 1e-12).all()
    expected = torch.tanh(z.abs() / 2) / values["L"]
    assert torch.allclose(radii.radius, expected, atol=1e-12)


def test_l_is_the_quantile_of_the_fit() -> None:
    certificate = LBound(norm=Norm.L2, p=0.01, batch=20)
    state, _ = run(certificate, small_net(), random_images(800, classes=3))
    values = {s.quantity: s.value for s in state if s.quantity != "maximum"}
    quantile = genextreme.isf(0.01, values["gev_shape"], values["gev_loc"], values["gev_scale"])
    assert values["L"] == pytest.approx(max(quantile, values["observed_maximum"]))
    assert values["fit_code"] in (Fit.FITTED, Fit.RAISED, Fit.UNBOUNDED)
    assert (values["fit_code"] == Fit.RAISED) == (quantile < values["observed_maximum"])


def test_l_is_at_least_the_largest_slope_of_the_set_though_no_batch_drew_it() -> None:
    classifier, images = small_net(), random_images(100, classes=3)
    state, _ = run(LBound(norm=Norm.L2, batches=3, batch=1), classifier, images)
    largest = float(slopes(classifier, images, Norm.L2).slope.max())
    assert max(s.value for s in state if s.quantity == "maximum") < largest
    values = {s.quantity: s.value for s in state}
    assert values["fit_code"] == Fit.TOO_FEW
    assert values["L"] == pytest.approx(largest)


def test_l_bound_of_a_single_image_falls_back_to_what_was_seen() -> None:
    classifier, _, _ = linear_two_class()
    state, _ = run(LBound(norm=Norm.L2), classifier, random_images(1))
    values = {s.quantity: s.value for s in state}
    assert values["fit_code"] == Fit.TIED
    assert values["L"] == values["observed_maximum"] == values["maximum"] > 0
