"""Every method declares what it puts into the tables of measurements and statistics, and emits what it declares."""

from __future__ import annotations

import pytest

import certificate_cases
import metric_cases
from attacking import BOUNDED, COMPILED, fast, find, streams
from oracles import affine, random_images
from robusteval.attacks import ATTACKS
from robusteval.attacks.auto import Auto
from robusteval.certify import CERTIFICATES
from robusteval.certify.extreme_value.gev import WORDS, Fit
from robusteval.core.methods import Method, Quantity
from robusteval.metrics import METRICS
from robusteval.metrics.base import ImageMetric, SetMetric


def check(method: type[Method], emitted: set[str]) -> None:
    """Each name has a declaration, the first that covers it, and each declaration a name."""
    used = [next((q for q in method.quantities if q.covers(name)), name) for name in sorted(emitted)]
    assert not [name for name in used if isinstance(name, str)], "emitted, but not among the class's quantities"
    assert not [q.name for q in method.quantities if q not in used], (
        "declared, but not emitted with the case's settings"
    )


@pytest.mark.parametrize("name", [name for name in ATTACKS if name not in COMPILED])
def test_attacks(name: str) -> None:
    classifier, _, _ = affine(0)
    images, attack = random_images(0, 4, classifier), fast(name, ATTACKS[name].norms[0])
    radii = images.pixels.new_full((4,), 0.5) if name in BOUNDED else None
    found = find(attack, classifier.metered(4), images, radii, streams(images))
    check(type(attack), set(found.measurements))


@pytest.mark.parametrize("name", CERTIFICATES)
def test_certificates(name: str) -> None:
    certificate = certificate_cases.small(name, CERTIFICATES[name].norms[0])
    classifier, _, _ = affine(0)
    state, radii = certificate_cases.run(certificate, classifier, random_images(0, 20, classifier))
    check(type(certificate), {s.quantity for s in state} | {quantity for quantity, _, _ in radii.measurements})


@pytest.mark.parametrize("name", METRICS)
def test_metrics(name: str) -> None:
    metric, pixels = metric_cases.case_of(name), metric_cases.random_pixels(20)
    classifier, images = metric_cases.small_net(metric=name), metric_cases.images_of(pixels)
    witnesses = None if metric.witnesses_of is None else 0.9 * pixels + 0.1 * pixels.flip(0)
    if isinstance(metric, SetMetric):
        seen = metric_cases.observe(metric, classifier, images, witnesses)
        emitted = {s.quantity for s in seen.statistics} | {m.quantity for m in seen.measurements}
    else:
        assert isinstance(metric, ImageMetric)
        emitted = {m.quantity for m in metric_cases.measure(metric, classifier, images, witnesses)}
    check(type(metric), emitted)


@pytest.mark.parametrize("method", [*ATTACKS.values(), *CERTIFICATES.values(), *METRICS.values()], ids=lambda m: m.name)
def test_titles_tell_the_quantities_of_a_method_apart(method: type[Method]) -> None:
    titles = [q.title for q in method.quantities]
    assert len(set(titles)) == len(titles)
    assert all(title and title == title.strip() for title in titles)


def test_a_title_takes_the_parts_of_the_name() -> None:
    quantity = Quantity(name="norm_{p}_{q}", title="({p}, {q}) norm")
    assert quantity.covers("norm_inf_2")
    assert quantity.called("norm_inf_2") == "(inf, 2) norm"
    assert not quantity.covers("norm_inf")
    with pytest.raises(KeyError, match="expected a name like"):
        quantity.called("norm_inf")


def test_every_state_of_a_fit_has_words() -> None:
    assert WORDS.keys() == set(Fit)
    for name in ("l-bound", "omega-bound", "clever"):
        assert [q.words for q in CERTIFICATES[name].quantities if q.name.endswith("fit_code")] == [WORDS]


def test_the_members_of_an_ensemble_are_those_of_its_quantity() -> None:
    (stage,) = Auto.quantities
    assert stage.words == {member.value: member.title for member in Auto.ensemble}
    assert [member.value for member in Auto.ensemble] == [1, 2, 5, 3, 4]
    assert {member.follows for member in Auto.ensemble} <= {"gradients", "outputs"}
