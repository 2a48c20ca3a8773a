"""Proofs by bound propagation are sound everywhere: inside the network, at its margins, within a certified radius."""

from __future__ import annotations

import pytest
import torch

import attacking
from propagating import F64, NETWORKS, evaluated, images_for, proven, small, steps_within
from robusteval.certify.propagation import alpha_crown as slopes
from robusteval.certify.propagation.ball import InputBall
from robusteval.certify.propagation.intermediate_bounds import refined
from robusteval.certify.propagation.interval_bounds import propagated
from robusteval.certify.propagation.margins import interval_margins, linear_margins
from robusteval.certify.propagation.trace import trace
from robusteval.core.norms import BALLS, Norm


@pytest.mark.parametrize("norm", BALLS)
@pytest.mark.parametrize("network", NETWORKS)
def test_nothing_within_a_certified_radius_is_misclassified(network: str, norm: Norm) -> None:
    classifier = small(network)
    images = images_for(classifier, 6)
    found = {name: proven(name, norm, classifier, images) for name in ("ibp", "crown")}
    assert (found["crown"] >= found["ibp"]).all()
    assert found["crown"].mean() > 1.3 * found["ibp"].mean()
    for radius in found.values():
        assert (radius > 0).all()
        moved = steps_within(norm, radius, images, 60)
        assert (classifier.predict(moved.flatten(0, 1)).argmax(1).view(60, -1) == images.labels).all()
        attack = attacking.make("pgd", norm, steps=20)
        candidates = attack.run(classifier.metered(6), images, radius.float() * (1 - 1e-6), attacking.streams(images))
        assert not classifier.misclassifies(candidates.examples, images.labels).any()


@pytest.mark.parametrize("norm", BALLS)
@pytest.mark.parametrize("network", NETWORKS)
def test_every_value_and_every_margin_stays_within_its_bounds(network: str, norm: Norm) -> None:
    """Sharper than classes: each number inside the network, at random images of balls in which much is undecided."""
    classifier = small(network)
    graph, images = trace(classifier), images_for(classifier, 6)
    x = images.pixels.double()
    eps = 0.1 * norm.size(torch.maximum(x, 1 - x))
    ball = InputBall(norm, x, eps)
    moved = steps_within(norm, eps, images, 40).flatten(0, 1)
    values = evaluated(graph, moved)
    rows = classifier.predict(moved).double()
    found = {}
    for tighten in (None, refined(graph, ball, 10**9)):
        known = propagated(graph, ball, tighten)
        for value, here in zip(values, known, strict=True):
            value = value.unflatten(0, (40, -1))
            assert (value >= here.interval.lower).all()
            assert (value <= here.interval.upper).all()
        found[tighten is None] = [k.interval.upper - k.interval.lower for k in known]
        for bound in (interval_margins, linear_margins):
            least = bound(graph, known, ball, images.labels)
            own = rows.gather(1, images.labels.repeat(40)[:, None])
            others = torch.ones_like(rows, dtype=torch.bool).scatter(1, images.labels.repeat(40)[:, None], False)
            margins = (own - rows)[others].view(40, len(x), -1)
            assert (margins >= least).all()
    assert all((tight <= wide).all() for tight, wide in zip(found[False], found[True], strict=True))
    # In L1 the first layer, which is exact, leaves little to gain.
    assert (
        norm is Norm.L1
        or sum((tight < 0.9 * wide).sum() for tight, wide in zip(found[False], found[True], strict=True)) > 10
    )


@pytest.mark.parametrize("norm", BALLS)
def test_optimised_slopes_never_give_less_and_mostly_more(norm: Norm) -> None:
    classifier = small("pooled" if norm is Norm.LINF else "dense")
    images = images_for(classifier, 6)
    plain, better = (proven("crown", norm, classifier, images, optimise=n) for n in (0, 5))
    assert (better >= plain).all()
    assert better.mean() > 1.003 * plain.mean()
    moved = steps_within(norm, better, images, 60)
    assert (classifier.predict(moved.flatten(0, 1)).argmax(1).view(60, -1) == images.labels).all()


def test_slopes_that_overshoot_do_no_harm() -> None:
    """With steps far too long: never below CROWN's margins, never above those of any image."""
    classifier = small("dense")
    graph, images = trace(classifier), images_for(classifier, 8)
    eps = torch.full((8,), 0.1, dtype=F64)
    ball = InputBall(Norm.LINF, images.pixels.double(), eps)
    known = propagated(graph, ball, refined(graph, ball, 10**9))
    plain = linear_margins(graph, known, ball, images.labels)
    moved = classifier.predict(steps_within(Norm.LINF, eps, images, 400).flatten(0, 1)).double().view(400, 8, -1)
    own = moved.gather(2, images.labels.expand(400, -1)[..., None])
    others = torch.ones_like(moved, dtype=torch.bool).scatter(2, images.labels.expand(400, -1)[..., None], False)
    seen = (own - moved)[others].view(400, 8, -1).amin(0)
    for steps in (1, 8):
        better = slopes.optimised_margins(graph, known, ball, images.labels, steps, rate=3.0)
        assert (better >= plain).all()
        assert (better <= seen).all()


def test_backward_passes_inside_the_network_pay_and_can_be_forgone() -> None:
    classifier = small("pooled")
    images = images_for(classifier, 10)
    full, cheap = (proven("crown", Norm.LINF, classifier, images, affordable=a) for a in (10**8, 0))
    assert full.mean() > 1.05 * cheap.mean()
    assert (cheap >= proven("ibp", Norm.LINF, classifier, images)).all()
