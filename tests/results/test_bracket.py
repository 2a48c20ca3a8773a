"""The per-image bound table, against a table worked out by hand."""

from __future__ import annotations

import math

import pandas as pd

from robusteval.results.bracket import bracket, refuted_proofs
from robusteval.results.tables import BOUNDS_TABLE, CERTIFICATES_TABLE, IMAGES_TABLE, WITNESSES_TABLE


def images() -> pd.DataFrame:
    return IMAGES_TABLE.frame(
        {
            "image_id": ["a", "b", "c"],
            "label": [0, 1, 2],
            "predicted": [0, 1, 0],
            "correct": [True, True, False],
            "logit_margin": [1.0, 2.0, -1.0],
            "probability_margin": [0.1, 0.2, -0.1],
        }
    )


def witness(image_id: str, method: str, success: bool, l2: float, linf: float) -> dict[str, object]:
    distances = (
        {"l0": 1.0, "l1": 2 * l2, "l2": l2, "linf": linf}
        if success
        else dict.fromkeys(("l0", "l1", "l2", "linf"), math.inf)
    )
    return {"image_id": image_id, "method": method, "norm": "l2", "budget": math.nan, "success": success,
            "predicted": 1, "forwards": 1.0, "backwards": 0.0, **distances}  # fmt: skip


def certificate(
    image_id: str, method: str, norm: str, radius: float, subject: str = "f", kind: str = "estimate", predicted: int = 0
) -> dict[str, object]:
    return {"image_id": image_id, "method": method, "subject": subject, "norm": norm, "kind": kind,
            "radius": radius, "alpha": math.nan, "predicted": predicted, "abstained": False}  # fmt: skip


def test_the_closest_witness_wins_in_each_norm_and_failures_are_infinite() -> None:
    rows = [
        witness("a", "x", True, 0.5, 0.4),
        witness("a", "y", True, 0.6, 0.1),
        witness("b", "x", False, 0, 0),
        witness("b", "y", False, 0, 0),
    ]
    bounds = bracket(images(), pd.DataFrame(rows), CERTIFICATES_TABLE.frame()).set_index("image_id")
    assert list(bounds.columns) == BOUNDS_TABLE.names[1:]
    assert (bounds.loc["a", "upper_l2"], bounds.loc["a", "upper_l2_method"]) == (0.5, "x")
    assert (bounds.loc["a", "upper_linf"], bounds.loc["a", "upper_linf_method"]) == (0.1, "y")
    assert (bounds.loc["b", "upper_l2"], bounds.loc["b", "upper_l2_method"]) == (math.inf, "")
    assert (bounds.loc["c", "upper_l2"], bounds.loc["c", "upper_l2_method"]) == (0.0, "clean")


def test_contradictions_are_named_and_only_where_the_subjects_meet() -> None:
    witnesses = pd.DataFrame([witness("a", "x", True, 0.5, 0.4), witness("b", "x", False, 0, 0)])
    certificates = pd.DataFrame(
        [certificate(i, "l-bound-l2", "l2", 0.6) for i in "ab"]
        + [certificate(i, "l-bound-linf", "linf", 0.4) for i in "ab"]
        + [certificate(i, "smoothing-l2", "l2", 9.0, "smooth(f, 0.25)") for i in "ab"]
        + [certificate("c", "l-bound-l2", "l2", 0.0)]
    )
    bounds = bracket(images(), witnesses, certificates).set_index("image_id")
    assert bounds["contradictions"].to_dict() == {"a": "l-bound-l2", "b": "", "c": ""}
    assert bounds.loc["b", "lower_smoothing-l2"] == 9.0


def test_a_run_without_attacks_or_certificates_has_bounds() -> None:
    bounds = bracket(images(), WITNESSES_TABLE.frame(), CERTIFICATES_TABLE.frame())
    assert bounds["upper_l1"].tolist() == [math.inf, math.inf, 0.0]


def test_the_best_proof_holds_in_every_norm_that_is_not_smaller() -> None:
    rows = [
        certificate("a", "ibp-linf", "linf", 0.01, kind="proof"),
        certificate("a", "crown-linf", "linf", 0.02, kind="proof"),
        certificate("a", "crown-l2", "l2", 0.3, kind="proof"),
        certificate("b", "crown-linf", "linf", 0.05, kind="proof", predicted=1),
        certificate("a", "l-bound-l1", "l1", 9.0),
        certificate("b", "top-l2", "l2", 9.0, "top-2(f)", kind="proof", predicted=1),
        certificate("c", "crown-l2", "l2", 9.0, kind="proof", predicted=0),
    ]
    bounds = bracket(images(), WITNESSES_TABLE.frame(), pd.DataFrame(rows)).set_index("image_id")
    found = {n: (bounds[f"proof_{n}"].tolist(), bounds[f"proof_{n}_method"].tolist()) for n in ("l1", "l2", "linf")}
    assert found["linf"] == ([0.02, 0.05, 0.0], ["crown-linf", "crown-linf", ""])
    assert found["l2"] == ([0.3, 0.05, 0.0], ["crown-l2", "crown-linf", ""])
    assert found["l1"] == found["l2"], "an estimate and a proof of another subject or class are no proof of f's label"


def test_confidence_speaks_for_the_label_only_and_never_contradicts() -> None:
    witnesses = pd.DataFrame([witness("a", "x", True, 0.5, 0.4)])
    rows = [
        certificate("a", "smooth-1", "l2", 0.7, "smooth(f, 1)", "confidence"),
        certificate("a", "smooth-2", "l2", 0.9, "smooth(f, 2)", "confidence", predicted=2),
        certificate("c", "smooth-1", "l2", 0.4, "smooth(f, 1)", "confidence", predicted=2),
    ]
    bounds = bracket(images(), witnesses, pd.DataFrame(rows)).set_index("image_id")
    assert bounds["confidence_l2"].tolist() == [0.7, 0.0, 0.4]
    assert bounds["confidence_l2_method"].tolist() == ["smooth-1", "", "smooth-1"]
    assert bounds["confidence_linf"].tolist() == [0.0, 0.0, 0.0]
    assert bounds["contradictions"].tolist() == ["", "", ""]
    assert refuted_proofs(bounds.reset_index()) == []


def test_a_witness_inside_a_proven_radius_is_named() -> None:
    witnesses = pd.DataFrame([witness("a", "x", True, 0.5, 0.4), witness("b", "x", True, 0.5, 0.4)])
    rows = [
        certificate("a", "crown-l2", "l2", 0.5, kind="proof"),
        certificate("b", "crown-linf", "linf", 0.41, kind="proof", predicted=1),
    ]
    (line,) = refuted_proofs(bracket(images(), witnesses, pd.DataFrame(rows)))
    assert line == "image b: crown-linf proves linf 0.41, the witness of x lies at 0.4"
