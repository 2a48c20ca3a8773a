"""The per-image bound table, against a table worked out by hand."""

from __future__ import annotations

import math

import pandas as pd

from robusteval.audit.bracket import bracket
from robusteval.tables import BOUNDS, CERTIFICATES, IMAGES, WITNESSES


def images() -> pd.DataFrame:
    return IMAGES.frame(
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


def certificate(image_id: str, method: str, norm: str, radius: float, subject: str = "f") -> dict[str, object]:
    return {"image_id": image_id, "method": method, "subject": subject, "norm": norm, "kind": "estimate",
            "radius": radius, "alpha": math.nan, "predicted": 0, "abstained": False}  # fmt: skip


def test_the_closest_witness_wins_in_each_norm_and_failures_are_infinite() -> None:
    rows = [
        witness("a", "x", True, 0.5, 0.4),
        witness("a", "y", True, 0.6, 0.1),
        witness("b", "x", False, 0, 0),
        witness("b", "y", False, 0, 0),
    ]
    bounds = bracket(images(), pd.DataFrame(rows), CERTIFICATES.frame()).set_index("image_id")
    assert list(bounds.columns) == BOUNDS.names[1:]
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
    bounds = bracket(images(), WITNESSES.frame(), CERTIFICATES.frame())
    assert bounds["upper_l1"].tolist() == [math.inf, math.inf, 0.0]
