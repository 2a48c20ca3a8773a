"""The spectrum of the Jacobian at images and at witnesses, of the network and of its random twin; its figures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from metric_cases import F64, SHAPE, curve, images_of, measure, random_pixels, small_net
from robusteval.analysis.metrics.alignment import chance
from robusteval.core.errors import UnsupportedError
from robusteval.metrics.alignment import Alignment
from robusteval.metrics.random_twin import random_twin
from robusteval.metrics.spectrum import JacobianSpectrum
from robusteval.models.making import make_classifier
from robusteval.numerics.jacobian import jacobian, outputs, spectrum
from robusteval.reports import write_report
from run_fixture import Fake, build_paper_run
from spectra import D


def test_spectrum_of_a_linear_map_is_that_of_its_matrix() -> None:
    torch.manual_seed(3)
    body = nn.Sequential(nn.Conv2d(2, 3, 3, padding=1), nn.Flatten(), nn.Linear(48, 10))
    last = nn.Linear(10, 3)
    network = nn.Sequential(body, last)
    classifier = make_classifier("linear", network, SHAPE, mean=(0.1, 0.2), std=(0.5, 0.25)).to("cpu", F64)
    network.double()
    with torch.no_grad():
        basis = torch.eye(D, dtype=F64).view(D, *SHAPE)
        matrix = body(basis / torch.tensor([0.5, 0.25], dtype=F64).view(1, 2, 1, 1)) - body(
            torch.zeros(1, *SHAPE, dtype=F64)
        )
    for of, expected in (("features", matrix.T), ("logits", last.weight.detach() @ matrix.T)):
        metric = JacobianSpectrum.model_validate({"of": of, "ranks": None})
        found = curve(measure(metric, classifier, images_of(random_pixels(4))), "singular_value")
        s = torch.linalg.svdvals(expected)
        assert found.shape == (len(s), 4)
        assert torch.allclose(found, s[:, None].expand_as(found), rtol=1e-9)


def test_labels_tell_the_maps_apart() -> None:
    assert JacobianSpectrum().label == "jacobian-spectrum"
    assert JacobianSpectrum(of="logits").label == "jacobian-spectrum-logits"
    assert Alignment(witnesses="pgd-l2").label == "alignment-pgd-l2"
    assert Alignment(witnesses="pgd-l2", of="logits").label == "alignment-pgd-l2-logits"


def test_spectrum_keeps_the_ranks_asked_for_and_counts_its_cost() -> None:
    classifier = small_net(8).metered(5)
    found = measure(JacobianSpectrum(ranks=3, twin=False), classifier, images_of(random_pixels(5)))
    assert [(m.quantity, m.at) for m in found] == [("singular_value", r) for r in (1, 2, 3)]
    # And forwards of one image: one that finds the layer, two that tell how many features there are.
    assert torch.allclose(classifier.meter.forwards, torch.full((5,), 1 + 3 / 5, dtype=F64))
    assert torch.allclose(classifier.meter.backwards, torch.full((5,), 8.0, dtype=F64))
    classifier = small_net(8).metered(5)
    found = measure(JacobianSpectrum(ranks=3), classifier, images_of(random_pixels(5)))
    assert len(found) == 6
    assert torch.allclose(classifier.meter.backwards, torch.full((5,), 16.0, dtype=F64))


def test_spectrum_at_witnesses_is_nan_where_there_is_none() -> None:
    metric, images = JacobianSpectrum(ranks=None, witnesses="pgd-linf"), images_of(random_pixels(4))
    assert metric.witnesses_of == "pgd-linf"
    witnesses = random_pixels(4).flip(0)
    witnesses[2] = torch.nan
    found = curve(measure(metric, small_net(), images, witnesses), "singular_value_adversarial")
    assert found[:, 2].isnan().all()
    rest = torch.tensor([0, 1, 3])
    j = jacobian(outputs(small_net(), "features"), witnesses[rest])
    assert torch.allclose(found[:, rest].T, torch.linalg.svdvals(j), rtol=1e-6)
    none = measure(metric, small_net(), images, torch.full_like(witnesses, torch.nan))
    assert curve(none, "singular_value_adversarial").isnan().all()
    assert curve(none, "singular_value").isfinite().all()


def test_the_twin_is_another_network_and_always_the_same() -> None:
    images = images_of(random_pixels(3))
    trained, twin, again, other = (
        curve(measure(JacobianSpectrum(twin_seed=seed), small_net(), images), quantity)
        for seed, quantity in (
            (0, "singular_value"),
            (0, "singular_value_twin"),
            (0, "singular_value_twin"),
            (1, "singular_value_twin"),
        )
    )
    assert torch.equal(twin, again)
    expected = spectrum(jacobian(outputs(random_twin(small_net(), 0), "features"), images.pixels))
    assert torch.allclose(twin.T, expected)
    for different in (trained, other):
        assert ((twin / different - 1).abs() > 1e-3).all()


def test_a_network_without_a_linear_layer_is_unsupported() -> None:
    network = nn.Sequential(nn.Conv2d(2, 3, 4), nn.Flatten())
    classifier = make_classifier("conv", network, SHAPE).to("cpu", F64)
    with pytest.raises(UnsupportedError, match=r"torch\.nn\.Linear"):
        measure(JacobianSpectrum(), classifier, images_of(random_pixels(2)))


def test_the_report_shows_figure_2(tmp_path: Path) -> None:
    attacks = [Fake("pga-l2", "pgd", "l2", {"l2": [0.2, 0.5, 0.5, 0.1]}, (0.2, 0.5, 1.0))]
    rows = []
    for rank in (1.0, 2.0, 3.0):
        rows += [("jacobian-spectrum", q, rank, [4 / rank, 2 / rank, 3 / rank, np.nan]) for q in ("singular_value",)]
        rows += [("jacobian-spectrum", "singular_value_twin", rank, [0.1, 0.1, 0.1, 0.1])]
        rows += [("alignment", "alignment", rank, [0.5, 0.7] + [0.6 if rank < 3 else np.nan] * 2)]
    rows.append(("alignment", "alignment", 4.0, [0.9, np.nan, np.nan, np.nan]))
    settings = {"of": "features", "witnesses": "pga-l2"}
    both = {"jacobian-spectrum": settings, "alignment": settings}
    run = build_paper_run(tmp_path, "opnorm-2020", [True] * 4, attacks, measurements=rows, settings=both)
    report = write_report(run)
    page, text = report.read_text(), report.with_suffix(".md").read_text()
    assert "Jacobian spectrum of the features (OpNorm, figure 2 left)" in page
    assert "Perturbations by PGD, L2, and the singular vectors of the features (OpNorm, figure 2 right)" in page
    # 1.5, 1 and 2: mean 1.5, standard error sqrt(1/4) / sqrt(3).
    assert "1.5 ± 0.29" in text
    assert f"{chance(16):.4g}" in page
    table = (tmp_path / "figures" / "alignment-alignment.csv").read_text()
    assert table.count("alignment,") == 4
    assert "alignment,4.0,0.9,0.0,1" in table
