"""Singular values and vectors of Jacobians, and the alignment of perturbations with them, against known matrices."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import beta
from torch import Tensor, nn

from metric_cases import F64, SHAPE, curve, images_of, measure, random_pixels, small_net
from robusteval.analysis.metrics.alignment import chance
from robusteval.core import memory
from robusteval.core.errors import UnsupportedError
from robusteval.core.streams import Streams
from robusteval.metrics.alignment import Alignment, cosines
from robusteval.metrics.random_twin import random_twin
from robusteval.metrics.spectrum import JacobianSpectrum
from robusteval.models.architectures import ARCHITECTURES
from robusteval.models.classifier import Classifier
from robusteval.models.making import make_classifier
from robusteval.numerics.jacobian import Linearised, jacobian, jacobians, outputs, spectrum
from robusteval.numerics.singular import (
    BASIS,
    GUARD,
    Singular,
    decompose,
    leading,
    singular_values,
    singular_vectors,
    without_matrix,
)
from robusteval.reports import write_report
from run_fixture import Fake, build_paper_run

D = 32


def streams(pixels: Tensor, seed: int = 0) -> Streams:
    return Streams.for_images(seed, "test", [str(i) for i in range(len(pixels))], pixels)


def orthonormal(rows: int, columns: int) -> Tensor:
    q: Tensor = torch.linalg.qr(torch.randn(rows, columns, dtype=F64)).Q
    return q


def known(values: list[float], classes: int = 3) -> tuple[Classifier, Tensor]:
    """A network whose features are U S V^T x, and V^T, (k, D): its right singular vectors as rows."""
    torch.manual_seed(1)
    k = len(values)
    v = orthonormal(D, k)
    features = nn.Linear(D, k, bias=False, dtype=F64)
    with torch.no_grad():
        features.weight.copy_(orthonormal(k, k) @ torch.diag(torch.tensor(values, dtype=F64)) @ v.T)
    network = nn.Sequential(nn.Flatten(), features, nn.Linear(k, classes, dtype=F64))
    plain = make_classifier("known", nn.Sequential(nn.Flatten(), nn.Linear(D, classes)), SHAPE)
    return Classifier("known", network.requires_grad_(False), classes, SHAPE, plain.fingerprint, dtype=F64), v.T


def matrix_map(w: Tensor) -> Any:
    return lambda pixels: pixels.flatten(1) @ w.T


# The matrix and its products


@pytest.mark.parametrize("of", ["features", "logits"])
def test_the_jacobian_is_that_of_autograd(of: Any) -> None:
    classifier, pixels = small_net(), random_pixels(5)
    f = outputs(classifier, of)
    found = torch.cat(list(jacobians(f, pixels, 2)))
    for x, j in zip(pixels, found, strict=True):
        expected = torch.autograd.functional.jacobian(lambda v: f(v[None])[0], x).flatten(1)
        assert torch.allclose(j, expected, rtol=1e-12, atol=1e-14)


def test_jacobians_hold_no_more_than_they_may() -> None:
    pixels = random_pixels(7)
    f = outputs(small_net(8), "features")
    whole = jacobian(f, pixels)
    for entries, sizes in ((3 * 8 * D, [3, 3, 1]), (1, [1] * 7), (10**9, [5, 2])):
        with memory.at_most(entries):
            parts = list(jacobians(f, pixels, 5))
        assert [len(p) for p in parts] == sizes
        assert torch.allclose(torch.cat(parts), whole, rtol=1e-12)
    assert list(jacobians(f, pixels[:0], 5)) == []


def test_products_are_those_with_the_matrix() -> None:
    classifier, pixels = small_net(8), random_pixels(4)
    f = outputs(classifier, "features")
    j = jacobian(f, pixels)
    v, u = torch.randn(4, 3, D, dtype=F64), torch.randn(4, 2, 8, dtype=F64)
    line = Linearised(f, pixels)
    for _ in range(2):
        assert torch.allclose(line.push(v), v @ j.mT, rtol=1e-9, atol=1e-12)
        assert torch.allclose(line.pull(u), u @ j, rtol=1e-9, atol=1e-12)


def test_every_pass_is_booked() -> None:
    pixels = random_pixels(4)
    classifier = small_net(8).metered(4)
    f = outputs(classifier, "features")
    jacobian(f, pixels)
    assert classifier.meter.forwards.tolist() == [1.0] * 4
    assert classifier.meter.backwards.tolist() == [8.0] * 4
    line = Linearised(f, pixels)
    line.push(torch.randn(4, 3, D, dtype=F64))
    line.pull(torch.randn(4, 5, 8, dtype=F64))
    assert classifier.meter.forwards.tolist() == [1.0 + 1 + 3] * 4
    assert classifier.meter.backwards.tolist() == [8.0 + 1 + 5] * 4


class Once(torch.autograd.Function):
    """A layer that cannot be differentiated twice."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return 2 * x

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return 2 * gradient


def test_a_layer_that_cannot_be_differentiated_twice_is_unsupported() -> None:
    pixels = random_pixels(2)

    def f(x: Tensor) -> Tensor:
        y: Tensor = Once.apply(x.flatten(1))  # type: ignore[no-untyped-call]
        return y

    with pytest.raises(UnsupportedError, match="differentiated twice, got"):
        leading(f, pixels, 2, streams(pixels))


# Singular values


@pytest.mark.parametrize(("rows", "columns"), [(5, 20), (20, 5), (6, 6)])
def test_all_singular_values_and_vectors_of_a_matrix(rows: int, columns: int) -> None:
    torch.manual_seed(0)
    j = torch.randn(3, rows, columns, dtype=F64)
    j[2, 1] = torch.nan
    _, s, vh = torch.linalg.svd(j[:2], full_matrices=False)
    found = decompose(j)
    for values in (spectrum(j), found.values):
        assert torch.allclose(values[:2], s, rtol=1e-9)
        assert values[2].isnan().all()
    assert torch.allclose((found.vectors[:2] * vh).sum(2).abs(), torch.ones_like(s), rtol=1e-9)
    assert found.vectors[2].isnan().all()


SPECTRA = {
    "geometric": 0.9 ** np.arange(60),
    "slow": 0.99 ** np.arange(60),
    "flat": np.ones(60),
    "triples": np.repeat(0.9 ** np.arange(20), 3),
    "a cluster within 1 %": np.append(1 - 2e-4 * np.arange(50), np.full(10, 0.5)),
    "a cluster behind the first": np.append([3.0, 2.0], 1 - 1e-4 * np.arange(58)),
    "rank 3": np.append([3.0, 2.0, 1.0], np.zeros(57)),
    "nothing": np.zeros(60),
}


@pytest.mark.parametrize("dtype", [torch.float32, F64])
@pytest.mark.parametrize("k", [1, 4, 12])
@pytest.mark.parametrize("name", SPECTRA)
def test_leading_singular_values_meet_the_full_ones(name: str, k: int, dtype: torch.dtype) -> None:
    torch.manual_seed(2)
    s = torch.tensor(SPECTRA[name])
    w = orthonormal(60, 60) @ torch.diag(s) @ orthonormal(96, 60).T
    pixels = torch.rand(3, 2, 6, 8).to(dtype)
    found = leading(matrix_map(w.to(dtype)), pixels, k, streams(pixels))
    assert found.values.shape == (3, k)
    assert torch.allclose(found.values, s[:k].expand(3, k), rtol=1e-3, atol=1e-5)
    gram = found.vectors @ found.vectors.mT
    assert torch.allclose(gram, torch.eye(k, dtype=F64).expand(3, k, k), atol=1e-9)
    # Each pair is one: |J v| = s. (Where J v is zero, any v will do.)
    assert torch.allclose((found.vectors @ w.T).norm(dim=2), found.values, rtol=1e-3, atol=1e-5)


def test_leading_singular_vectors_are_those_of_the_matrix() -> None:
    classifier, v = known([5.0, 3.0, 2.0, 1.0, 0.5])
    pixels = random_pixels(4)
    found = leading(outputs(classifier, "features"), pixels, 3, streams(pixels), tolerance=1e-6)
    assert torch.allclose(found.values, torch.tensor([5.0, 3.0, 2.0], dtype=F64).expand(4, 3), rtol=1e-6)
    assert torch.allclose((found.vectors * v[:3]).sum(2).abs(), torch.ones(4, 3, dtype=F64), rtol=1e-9)


@pytest.mark.parametrize("arch", ["cnn7-mnist", "digits-cnn"])
def test_leading_singular_values_of_networks(arch: str) -> None:
    torch.manual_seed(0)
    shape = ARCHITECTURES[arch].input_shape
    classifier = make_classifier("random", ARCHITECTURES[arch].network().eval(), shape)
    pixels = torch.rand(3, *shape)
    f = outputs(classifier, "features")
    full = decompose(jacobian(f, pixels))
    for k in (1, 6):
        found = leading(f, pixels, k, streams(pixels))
        assert torch.allclose(found.values, full.values[:, :k], rtol=1e-3)
    assert ((found.vectors @ full.vectors[:, :6].mT).square().sum(2) > 0.99).all()


def test_the_largest_is_not_taken_for_its_neighbours() -> None:
    """One direction alone that starts nearly orthogonal to the first would pass the second or third for it."""
    torch.manual_seed(2)
    s = torch.cat([torch.tensor([1, 0.997, 0.994]), torch.full((57,), 0.3)]).double()
    w = orthonormal(60, 60) @ torch.diag(s) @ orthonormal(96, 60).T
    pixels = torch.rand(400, 2, 6, 8, dtype=F64)
    found = leading(matrix_map(w), pixels, 1, streams(pixels))
    assert ((found.values - 1).abs() < 1e-3).all()


def test_what_does_not_converge_is_nan_and_so_is_all_behind() -> None:
    torch.manual_seed(2)
    s = torch.cat([torch.tensor([100.0]), 0.99 ** torch.arange(59)]).double()
    w = orthonormal(60, 60) @ torch.diag(s) @ orthonormal(96, 60).T
    pixels = torch.rand(40, 2, 6, 8, dtype=F64)
    found = leading(matrix_map(w), pixels, 4, streams(pixels), steps=11)
    bad = found.values.isnan()
    assert bad.any(1).float().mean() > 0.5
    assert not bad.all(1).any()
    assert (bad[:, 1:] >= bad[:, :-1]).all()
    assert (found.vectors.isnan().all(2) == bad).all()
    assert torch.allclose(found.values[~bad], s[:4].expand(40, 4)[~bad], rtol=1e-3)


def test_a_gradient_that_is_not_finite_harms_its_own_image_only() -> None:
    pixels = random_pixels(3) + 0.1
    w = torch.randn(12, D, dtype=F64, generator=torch.Generator().manual_seed(0))

    def f(x: Tensor) -> Tensor:
        return x.flatten(1) @ w.T + (x.flatten(1)[:, :12]).sqrt()

    alone = leading(f, pixels, 3, streams(pixels)).values
    pixels[1, 0, 0, 0] = 0
    for found in (leading(f, pixels, 3, streams(pixels)).values, spectrum(jacobian(f, pixels))[:, :3]):
        assert found[1].isnan().all()
        assert torch.allclose(found[[0, 2]], alone[[0, 2]], rtol=1e-3)


def test_the_matrix_is_made_where_it_fits_and_is_cheaper() -> None:
    pixels, w = torch.rand(2, 2, 6, 8, dtype=F64), torch.randn(130, 96, dtype=F64)
    f = matrix_map(w)
    full = torch.linalg.svdvals(w)
    assert without_matrix(f, pixels, None) == without_matrix(f, pixels, 3) == 0
    assert without_matrix(f, pixels, 2) == 2
    assert torch.allclose(singular_values(f, pixels, 3, 10, streams(pixels))[0], full[:3], rtol=1e-12)
    two = singular_values(f, pixels, 2, 10, streams(pixels))
    assert torch.allclose(two, full[:2].expand(2, 2), rtol=1e-3)
    with memory.at_most(96 * 129):
        assert without_matrix(f, pixels, None) == 20
        assert without_matrix(f, pixels, 50) == 45
        every = singular_values(f, pixels, None, 10, streams(pixels))
    assert torch.allclose(every, full[:20].expand(2, 20), rtol=1e-3)
    # As many images at a time as fit: here one.
    with memory.at_most(BASIS * (4 + GUARD) * 96):
        parts = list(singular_vectors(f, pixels, 4, 10, streams(pixels)))
    assert [len(part.values) for part in parts] == [1, 1]
    assert parts[0].resolution == 1e-3


def test_the_iteration_treats_each_image_by_itself() -> None:
    classifier, pixels = small_net(40), random_pixels(6)
    f = outputs(classifier, "features")
    together = leading(f, pixels, 3, streams(pixels))
    for i in (0, 4):
        one = torch.tensor([i])
        alone = leading(f, pixels[one], 3, streams(pixels).select(one))
        assert torch.allclose(alone.values[0], together.values[i], rtol=1e-9)


# The metric


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
    # And one forward of one image, which tells how many features there are; twice for each network.
    assert torch.allclose(classifier.meter.forwards, torch.full((5,), 1 + 2 / 5, dtype=F64))
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


# Alignment


def aligned(classifier: Classifier, perturbations: Tensor, **settings: Any) -> Tensor:
    """(ranks, N)"""
    pixels = random_pixels(len(perturbations))
    metric = Alignment.model_validate({"witnesses": "some", "ranks": None} | settings)
    return curve(measure(metric, classifier, images_of(pixels), pixels + perturbations.view_as(pixels)), "alignment")


def test_alignment_of_known_perturbations() -> None:
    """Of 0.01 (3 v_1 - 4 v_3), 2 v_2, and of something orthogonal to all."""
    classifier, v = known([5.0, 3.0, 2.0, 1.0])
    outside = torch.randn(D, dtype=F64)
    outside -= (v @ outside) @ v
    found = aligned(classifier, torch.stack([0.01 * (3 * v[0] - 4 * v[2]), 2 * v[1], outside]), twin=False)
    expected = torch.tensor([[0.6, 0, 0.8, 0], [0, 1, 0, 0], [0, 0, 0, 0]], dtype=F64)
    assert torch.allclose(found.T, expected, atol=1e-9)


def test_vectors_of_equal_singular_values_share_their_alignment() -> None:
    """3 v_2 + 4 v_3 where these two belong to one value, twice: the space has cosine 1, each of them 1 / sqrt(2).
    Vectors of zero singular values have none."""
    classifier, v = known([5.0, 2.0, 2.0, 1.0, 0.0, 0.0])
    found = aligned(classifier, (3 * v[1] + 4 * v[2])[None], twin=False)[:, 0]
    assert torch.allclose(found[:4], torch.tensor([0, 0.5, 0.5, 0], dtype=F64).sqrt(), atol=1e-7)
    assert found[4:].isnan().all()
    close = Singular(torch.tensor([[1.0, 1 - 1e-6, 0.9]], dtype=F64), torch.eye(3, dtype=F64)[None], 1e-5)
    assert torch.allclose(
        cosines(close, torch.tensor([[1.0, 0, 0]], dtype=F64)).square(), torch.tensor([0.5, 0.5, 0]).double()
    )


def test_what_did_not_converge_has_no_alignment_and_harms_no_other() -> None:
    nan = math.nan
    found = Singular(torch.tensor([[2.0, 1.0, nan]], dtype=F64), torch.eye(3, dtype=F64)[None], 1e-3)
    found.vectors[0, 2] = nan
    shares = cosines(found, torch.tensor([[3.0, 4.0, 0]], dtype=F64))[0]
    assert shares[:2].tolist() == pytest.approx([0.6, 0.8])
    assert shares[2].isnan()


def test_no_witness_no_perturbation_no_alignment() -> None:
    classifier, v = known([5.0, 3.0, 2.0])
    perturbations = torch.stack([v[0], 0 * v[0], torch.full_like(v[0], math.nan), 1e-6 * v[1]])
    found = aligned(classifier, perturbations)
    assert found[:, 1:3].isnan().all()
    assert found[0, 0] == pytest.approx(1)
    assert found[1, 3] == pytest.approx(1, abs=1e-6)
    pixels = random_pixels(2)
    none = measure(Alignment(witnesses="some"), classifier, images_of(pixels), torch.full_like(pixels, math.nan))
    assert none == []


def test_alignment_without_the_matrix_is_that_with_it() -> None:
    classifier, perturbations = small_net(12), 0.1 * random_pixels(4).flip(0).flatten(1)
    full = aligned(classifier, perturbations, ranks=3)
    with memory.at_most(1):
        assert torch.allclose(aligned(classifier, perturbations, ranks=3), full, atol=1e-3)


def test_alignment_of_the_twin_is_with_its_vectors() -> None:
    pixels, classifier = random_pixels(4), small_net()
    perturbations = random_pixels(4).flip(0) - pixels
    metric = Alignment(witnesses="some", ranks=4, twin_seed=3)
    found = curve(measure(metric, classifier, images_of(pixels), pixels + perturbations), "alignment_twin")
    _, _, vh = torch.linalg.svd(jacobian(outputs(random_twin(classifier, 3), "features"), pixels))
    unit = perturbations.flatten(1) / perturbations.flatten(1).norm(dim=1, keepdim=True)
    assert torch.allclose(found.T, (vh[:, :4] @ unit[:, :, None])[:, :, 0].abs(), atol=1e-7)


@pytest.mark.parametrize("dimensions", [1, 2, 3, 64, 784, 150_528])
def test_the_alignment_of_a_direction_at_random(dimensions: int) -> None:
    """cos^2 is Beta(1/2, (D - 1) / 2); for large D the mean |cos| is that of a Gaussian, sqrt(2 / (pi D))."""
    expected = 1.0 if dimensions == 1 else beta(0.5, (dimensions - 1) / 2).expect(np.sqrt) if dimensions < 100 else None
    if expected is None:
        expected = math.sqrt(2 / (math.pi * dimensions)) * (1 + 1 / (4 * dimensions))
    assert chance(dimensions) == pytest.approx(expected, rel=1e-5)


# The chapters


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
    assert "Perturbations of PGD, L2, and the singular vectors of the features (OpNorm, figure 2 right)" in page
    # 1.5, 1 and 2: mean 1.5, standard error sqrt(1/4) / sqrt(3).
    assert "1.5 ± 0.29" in text
    assert f"{chance(16):.4g}" in page
    table = (tmp_path / "figures" / "alignment-alignment.csv").read_text()
    assert table.count("alignment,") == 4
    assert "alignment,4.0,0.9,0.0,1" in table
