"""What holds of every certificate, in every norm that it has."""

from __future__ import annotations

import pytest
import torch
from pydantic import ValidationError

from certificate_cases import CASES, run, small
from certifying import F64, images_of, random_images, small_net, with_batch_size
from robusteval.certify import CERTIFICATES
from robusteval.core.methods import Guarantee
from robusteval.core.norms import Norm
from robusteval.core.streams import Streams


@pytest.mark.parametrize("dtype", [torch.float32, F64])
@pytest.mark.parametrize(("name", "norm"), CASES)
def test_every_certificate_runs_in_every_norm(name: str, norm: Norm, dtype: torch.dtype) -> None:
    certificate = small(name, norm)
    assert certificate.summary
    assert "\n" not in certificate.summary
    assert len(type(certificate).__doc__ or "") > 200
    pixels, classifier = random_images(30).pixels.to(dtype), small_net(dtype)
    images = images_of(pixels, classifier.predict(pixels).argmax(1))
    state, radii = run(certificate, classifier, images)
    assert radii.radius.shape == radii.predicted.shape == radii.abstained.shape == (30,)
    assert radii.radius.dtype == F64
    assert radii.radius.isfinite().all()
    assert (radii.radius >= 0).all()
    assert (radii.radius > 0).any()
    assert (radii.radius[radii.abstained] == 0).all()
    assert (certificate.error_probability is not None) == (certificate.kind is Guarantee.CONFIDENCE)
    assert all(isinstance(s.value, float) for s in state)


@pytest.mark.parametrize(("name", "norm"), CASES)
def test_results_do_not_depend_on_batch_size_order_or_company(name: str, norm: Norm) -> None:
    certificate, images = small(name, norm), random_images(13, classes=3)
    state, radii = run(certificate, with_batch_size(small_net(), 64), images)
    shuffled = torch.randperm(13, generator=torch.Generator().manual_seed(2))
    for size, order in [(1, torch.arange(13)), (5, torch.arange(13)), (64, shuffled)]:
        other_state, other = run(certificate, with_batch_size(small_net(), size), images.select(order))
        assert (other.radius - radii.radius[order]).abs().max() < 1e-9
        assert torch.equal(other.predicted, radii.predicted[order])
        for ours, theirs in zip(state, other_state, strict=True):
            assert (ours.quantity, ours.at) == (theirs.quantity, theirs.at)
            assert ours.value == pytest.approx(theirs.value, rel=1e-9, abs=1e-9, nan_ok=True)
    alone = torch.tensor([11])
    streams = Streams.for_images(1, certificate.label, images.select(alone).ids, images.pixels)
    single = certificate.radii(small_net(), images.select(alone), state, streams)
    assert abs(float(single.radius - radii.radius[11])) < 1e-9


@pytest.mark.parametrize(("name", "norm"), [c for c in CASES if CERTIFICATES[c[0]].kind is not Guarantee.CONFIDENCE])
def test_misclassified_images_get_zero(name: str, norm: Norm) -> None:
    classifier, images = small_net(), random_images(20, classes=3)
    predicted = classifier.predict(images.pixels).argmax(1)
    wrong = images_of(images.pixels, (predicted + 1) % 3)
    _, radii = run(small(name, norm), classifier, wrong)
    assert (radii.radius == 0).all()
    assert torch.equal(radii.predicted, predicted)


@pytest.mark.parametrize(
    ("name", "setting"),
    [
        ("l-bound", {"norm": "l2", "p": 0}),
        ("l-bound", {"norm": "l2", "batchs": 3}),
        ("l-bound", {}),
        ("clever", {"norm": "l2", "radius": 0}),
        ("clever", {"norm": "l0"}),
        ("l-bound", {"norm": "l2", "scores": "logit"}),
        ("l-bound", {"norm": "l2", "top": 0}),
        ("omega-bound", {"norm": "l2", "search": "both"}),
        ("omega-bound", {"norm": "l2", "grid": [0.2, 0.1]}),
        ("omega-bound", {"norm": "l2", "grid": [0.0, 0.1]}),
        ("smoothing", {"sigma": 0}),
        ("smoothing", {"norm": "linf"}),
        ("smoothing", {"alpha": 1.0}),
        ("smoothing-envelope", {"sigmas": []}),
        ("smoothing-envelope", {"sigmas": [0.5, 0.25]}),
        ("smoothing-envelope", {"sigmas": [0.0, 0.25]}),
        ("smoothing-sequential", {"radius": 0.0}),
        ("smoothing-sequential", {"precision": 1.0}),
    ],
)
def test_settings_that_make_no_sense_are_refused(name: str, setting: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        CERTIFICATES[name].model_validate(setting)
