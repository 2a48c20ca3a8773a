"""Operator norms against all corners, numpy's norms, and projected gradient ascent (OpNorm theorem 1)."""

from __future__ import annotations

from itertools import pairwise, product
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from metric_cases import F64, images_of, measure, small_net
from robusteval.analysis.results import Results
from robusteval.attacks.pgd import PGD
from robusteval.attacks.search.losses import Loss
from robusteval.core import memory
from robusteval.core.norms import BALLS, Norm
from robusteval.core.streams import Streams
from robusteval.metrics.operator_norm import FEW, OperatorNorm, by_signs, operator_norm, power_method, quantity
from robusteval.models.classifier import Classifier
from robusteval.models.making import make_classifier
from robusteval.reports.chapters.operator_norm import CHAPTER, quantities
from run_fixture import build_paper_run

PAIRS = [(p, q) for p in BALLS for q in BALLS]
SHAPE = (1, 2, 4)


def affine(matrix: Tensor, bias: float = 0.0) -> Classifier:
    """Logits matrix @ x, that of class 0 raised by `bias`."""
    layer = nn.Linear(matrix.shape[1], matrix.shape[0]).double()
    with torch.no_grad():
        layer.weight.copy_(matrix)
        layer.bias.copy_(torch.cat([torch.tensor([bias]), torch.zeros(len(matrix) - 1)]))
    network = nn.Sequential(nn.Flatten(), layer).float()
    classifier = make_classifier("affine", network, (1, 2, matrix.shape[1] // 2)).to("cpu", F64)
    classifier.module.network[1].weight.copy_(matrix)  # type: ignore[index, union-attr]
    return classifier


def some_matrix(outputs: int, inputs: int, seed: int) -> Tensor:
    matrix = torch.randn(outputs, inputs, generator=torch.Generator().manual_seed(seed), dtype=F64)
    return matrix * torch.linspace(0.3, 2, inputs, dtype=F64)


def enumerated(matrix: Tensor, p: Norm, q: Norm) -> float:
    """The maximum of |J v|_q over the corners of the l_p ball, or of |J^T u|_p* over those of the l_q* ball."""
    j = matrix.numpy()
    if p is q is Norm.L2:
        return float(np.linalg.norm(j, 2))
    if p is Norm.L2:
        return enumerated(matrix.T, q.dual, p.dual)
    size = j.shape[1]
    corners = np.eye(size) if p is Norm.L1 else np.array(list(product((-1.0, 1.0), repeat=size)))
    return float(max(np.linalg.norm(j @ v, q.p) for v in corners))


def norms_of(classifier: Classifier, count: int = 3, **settings: int) -> dict[str, Tensor]:
    pixels = torch.rand(count, *classifier.input_shape, generator=torch.Generator().manual_seed(3)).double()
    return {m.quantity: m.values for m in measure(OperatorNorm(**settings), classifier, images_of(pixels))}


def test_the_oracle_agrees_with_numpy() -> None:
    j = some_matrix(4, 8, 0)
    assert enumerated(j, Norm.L1, Norm.L1) == pytest.approx(np.linalg.norm(j.numpy(), 1))
    assert enumerated(j, Norm.LINF, Norm.LINF) == pytest.approx(np.linalg.norm(j.numpy(), np.inf))


@pytest.mark.parametrize(("p", "q"), PAIRS)
@pytest.mark.parametrize("outputs", [2, 4, 11])
def test_norms_are_those_of_all_corners(p: Norm, q: Norm, outputs: int) -> None:
    """More outputs than inputs too. The one estimate meets the maximum on these small matrices, and is named so."""
    matrix = some_matrix(outputs, 8, outputs)
    found = norms_of(affine(matrix))
    exact, least = quantities(p.value, q.value)
    assert (least in found) == ((p, q) == (Norm.LINF, Norm.L2))
    assert len(found) == 9
    name = least if least in found else exact
    assert found[name].numpy() == pytest.approx(np.full(3, enumerated(matrix, p, q)), rel=1e-9)


def test_many_outputs_are_estimated_from_below() -> None:
    matrix = some_matrix(FEW + 2, 10, 1)
    found = norms_of(affine(matrix))
    estimates = {name for name in found if name.endswith("_at_least")}
    hard = [(Norm.L2, Norm.L1), (Norm.LINF, Norm.L1), (Norm.LINF, Norm.L2)]
    assert estimates == {f"{quantity(p, q)}_at_least" for p, q in hard}
    for p, q in hard:
        exact, values = enumerated(matrix, p, q), found[f"{quantity(p, q)}_at_least"]
        assert (values <= exact * (1 + 1e-12)).all()
        assert (values >= 0.99 * exact).all()


@pytest.mark.parametrize("outputs", [1, 2, FEW])
@pytest.mark.parametrize("p", [Norm.L2, Norm.LINF])
def test_signs_are_tried_in_blocks(p: Norm, outputs: int) -> None:
    j = torch.stack([some_matrix(outputs, 6, seed) for seed in (1, 2)])
    whole = by_signs(j, p)
    with memory.at_most(12 * 3):
        assert torch.allclose(by_signs(j, p), whole)
    assert whole.numpy() == pytest.approx([enumerated(m, p, Norm.L1) for m in j], rel=1e-9)


@pytest.mark.parametrize(("p", "q"), PAIRS)
def test_the_power_method_climbs_and_stays_below(p: Norm, q: Norm) -> None:
    j = torch.stack([some_matrix(4, 8, seed) for seed in range(10)])
    starts = torch.randn(10, 40, 8, generator=torch.Generator().manual_seed(1), dtype=F64)
    reached = [power_method(j, starts, p, q, n)[0] for n in (1, 2, 3, 60)]
    for before, after in pairwise(reached):
        assert (after >= before * (1 - 1e-12)).all()
    exact = torch.tensor([enumerated(m, p, q) for m in j], dtype=F64)
    assert (reached[-1] <= exact[:, None] * (1 + 1e-12)).all()
    assert (reached[-1].amax(1) >= 0.9 * exact).all()
    _, v = power_method(j, starts, p, q, 60)
    assert torch.allclose(p.size(v.flatten(0, 1)), torch.ones(400, dtype=F64))


@pytest.mark.parametrize("step", [4000.0, 1e7])
@pytest.mark.parametrize(("p", "q"), PAIRS)
def test_theorem_1_gradient_ascent_is_the_power_method(p: Norm, q: Norm, step: float) -> None:
    """OpNorm theorem 1: on a model that is linear in the ball, PGD with a step that is large against the ball and an
    l_q loss ends in the direction in which the power method ends, from the same start, sign and all.

    The images lie in the middle of the box, further from its faces than a ball is wide (the longer step leaves the
    box), and a large bias keeps their class. In L2 the old iterate still weighs 1 / 4000, which the last steps forget.
    """
    matrix, eps, n = some_matrix(5, 8, 9), 1e-4, 12
    classifier = affine(matrix, bias=100.0).metered(n)
    pixels = 0.45 + 0.1 * torch.rand(n, *SHAPE, generator=torch.Generator().manual_seed(4)).double()
    images, budget = images_of(pixels), torch.full((n,), eps, dtype=F64)
    attack = PGD(norm=p, loss=Loss(f"logits-{q.value}"), steps=150, step=step)

    _, start, _ = attack.begin(classifier, images, budget, Streams.for_images(1, "pgd", images.ids, pixels))
    found = attack.within(classifier, images, budget, Streams.for_images(1, "pgd", images.ids, pixels)).examples
    ascent = (found - pixels).flatten(1) / eps

    begun = (start - pixels).flatten(1)[:, None] / eps
    reached, v = power_method(matrix.expand(n, -1, -1), begun, p, q, 150)
    assert torch.allclose(ascent, v[:, 0], atol=1e-6)
    gained = q.size(classifier.predict(found) - classifier.predict(pixels)) / eps
    assert torch.allclose(gained, reached[:, 0], rtol=1e-6)
    exact = enumerated(matrix, p, q)
    assert 0.95 * exact <= float(reached.max()) <= exact * (1 + 1e-9)


def test_a_network_is_measured_where_it_is() -> None:
    """The Jacobian of a curved network by automatic differentiation, one image at a time."""
    classifier = small_net()
    pixels = torch.rand(3, 2, 4, 4, generator=torch.Generator().manual_seed(3)).double()
    found = norms_of(classifier)
    for i, x in enumerate(pixels):
        j = torch.autograd.functional.jacobian(lambda v: classifier(v[None])[0], x).flatten(1)
        assert float(found["operator_norm_2_2"][i]) == pytest.approx(float(np.linalg.norm(j.numpy(), 2)))
        assert float(found["operator_norm_inf_inf"][i]) == pytest.approx(float(np.linalg.norm(j.numpy(), np.inf)))
        assert float(found["operator_norm_2_1"][i]) == pytest.approx(enumerated(j, Norm.L2, Norm.L1))
        # |J v|_1 <= sqrt(3) |J v|_2, and |J v|_2 <= |J v|_1.
        least = float(found["operator_norm_inf_2_at_least"][i])
        assert float(found["operator_norm_inf_1"][i]) / 3**0.5 - 1e-9 <= least
        assert least <= float(found["operator_norm_inf_1"][i])
    features = measure(OperatorNorm(of="features"), classifier, images_of(pixels))
    assert float(features[0].values[0]) != pytest.approx(float(found[features[0].quantity][0]))


def test_a_constant_network_has_norm_zero() -> None:
    found = norms_of(affine(torch.zeros(3, 8, dtype=F64)))
    assert all((values == 0).all() for values in found.values())


def test_only_the_jacobian_costs_evaluations() -> None:
    classifier = affine(some_matrix(4, 8, 2)).metered(5)
    norms_of(classifier, 5)
    # And one image tells how many outputs there are.
    assert torch.allclose(classifier.meter.forwards, torch.full((5,), 1.2, dtype=F64))
    assert torch.allclose(classifier.meter.backwards, torch.full((5,), 4.0, dtype=F64))


def test_one_name_for_measuring_and_reporting() -> None:
    assert all(quantity(p, q) == quantities(p.value, q.value)[0] for p, q in PAIRS)


def test_operator_norm_knows_what_is_out_of_reach() -> None:
    wide, narrow = torch.ones(1, FEW + 1, 4), torch.ones(1, FEW, 4)
    out = [(p, q) for p, q in PAIRS if operator_norm(wide, p, q) is None]
    assert out == [(Norm.L2, Norm.L1), (Norm.LINF, Norm.L1), (Norm.LINF, Norm.L2)]
    assert [(p, q) for p, q in PAIRS if operator_norm(narrow, p, q) is None] == [(Norm.LINF, Norm.L2)]


def test_the_report_has_the_papers_table(tmp_path: Path) -> None:
    measured = [
        ("operator-norm", "operator_norm_2_inf", 0.0, [1.0, 3.0]),
        ("operator-norm", "operator_norm_inf_1_at_least", 0.0, [4.0, np.nan]),
    ]
    (grid,) = CHAPTER.grids(Results(build_paper_run(tmp_path, "mine", [True, True], [], measurements=measured)))
    assert "OpNorm, table 1" in grid.title
    assert grid.rows == [
        ["L1", "-", "-", "-"],
        ["L2", "-", "-", "2 ± 1"],
        ["Linf", "at least 4 ± 0", "-", "-"],
    ]
