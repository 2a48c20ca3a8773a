"""Which bounds a run has, norm by norm: what the columns of a table of images are made of."""

from __future__ import annotations

from pathlib import Path

from records import with_changes
from robusteval.analysis.brackets import NormBounds, bounds_by_norm
from robusteval.analysis.results import Results
from robusteval.core.methods import Guarantee
from robusteval.core.norms import Norm
from run_fixture import build_run

BOTH = (Guarantee.PROOF, Guarantee.CONFIDENCE)


def test_a_bound_in_a_smaller_norm_is_one_in_the_larger_too(tmp_path: Path) -> None:
    """Smoothing in L2 holds in L1; the estimate in L2 is one of L2 alone; the attacks search in Linf and L2."""
    run = build_run(tmp_path)
    assert bounds_by_norm(Results(run), Norm.LINF) == [
        NormBounds(Norm.LINF, (), ()),
        NormBounds(Norm.L2, (Guarantee.CONFIDENCE,), ("l-bound-l2",)),
        NormBounds(Norm.L1, (Guarantee.CONFIDENCE,), ()),
    ]
    proven = with_changes(run, "l-bound-l2", guarantee=Guarantee.PROOF, norm=Norm.LINF)
    found = {own.norm: own for own in bounds_by_norm(Results(proven), Norm.LINF)}
    assert found[Norm.LINF] == NormBounds(Norm.LINF, (Guarantee.PROOF,), ())
    assert (found[Norm.L2].guaranteed, found[Norm.L1].guaranteed) == (BOTH, BOTH)


def test_a_norm_without_bounds_has_no_part_but_the_first(tmp_path: Path) -> None:
    run = build_run(tmp_path, certificates=False)
    assert [own.norm for own in bounds_by_norm(Results(run), Norm.L1)] == [Norm.L1, Norm.LINF, Norm.L2]


def test_an_estimate_of_another_classifier_is_none_of_the_model(tmp_path: Path) -> None:
    run = with_changes(build_run(tmp_path), "l-bound-l2", subject="top-1(f)")
    assert all(not own.estimates for own in bounds_by_norm(Results(run), Norm.LINF))
