"""The per-image bound table, derived from the other tables, and what in it contradicts itself."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from robusteval.core.norms import BALLS, Norm
from robusteval.results.exact import EXACT_COLUMNS, is_exact
from robusteval.results.tables import BOUNDS_TABLE

HOLDS_IN: dict[str, tuple[Norm, ...]] = {norm: BALLS[i:] for i, norm in enumerate(BALLS)}
"""A radius in one of these norms holds in the first as well: |v|_inf <= |v|_2 <= |v|_1."""


def bracket(images: pd.DataFrame, witnesses: pd.DataFrame, certificates: pd.DataFrame) -> pd.DataFrame:
    """One row an image: the closest witness in each norm with the attack that found it, the largest proven radius and
    the largest one that holds with confidence, each with its method (the first of equals), whether witness and proof
    meet (exact.py), every lower bound as `lower_<method>`, and the certificates that a witness contradicts.

    One witness bounds every norm, since the judge measured its distance in all of them; one lower bound holds in every
    norm that is nowhere smaller. A certificate is held against witnesses only where it speaks of the classifier f that
    was attacked; a confidence bound speaks of its own subject.
    """
    ids = images["image_id"]
    data: dict[str, Any] = {c: images[c].to_numpy() for c in ("image_id", "label", "predicted", "correct")}
    found = witnesses[witnesses["success"]]
    for norm in Norm:
        closest = found.sort_values(norm, kind="stable").drop_duplicates("image_id").set_index("image_id")
        wrong = ~images["correct"].to_numpy(bool)
        upper = closest[norm].reindex(ids).fillna(np.inf).to_numpy()
        by = closest["method"].reindex(ids).fillna("").to_numpy(object)
        data[f"upper_{norm}"] = np.where(wrong, 0.0, upper)
        data[f"upper_{norm}_method"] = np.where(wrong, "clean", by)
    usable = certificates.assign(radius=usable_radii(certificates, images))
    for kind in ("proof", "confidence"):
        of_kind = usable[(usable["kind"] == kind) & (usable["radius"] > 0)]
        if kind == "proof":
            of_kind = of_kind[of_kind["subject"] == "f"]
        for norm in BALLS:
            holding = of_kind[of_kind["norm"].isin(HOLDS_IN[norm])].sort_values(
                "radius", ascending=False, kind="stable"
            )
            largest = holding.drop_duplicates("image_id").set_index("image_id")
            data[f"{kind}_{norm}"] = largest["radius"].reindex(ids).fillna(0.0).to_numpy()
            data[f"{kind}_{norm}_method"] = largest["method"].reindex(ids).fillna("").to_numpy(object)
    for norm, name in EXACT_COLUMNS.items():
        data[name] = is_exact(data[f"proof_{norm}"], data[f"upper_{norm}"])
    lower: dict[str, Any] = {}
    contradictions: list[list[str]] = [[] for _ in ids]
    for method, rows in certificates.groupby("method", sort=False):
        radius = rows.set_index("image_id")["radius"].reindex(ids).to_numpy()
        lower[f"lower_{method}"] = radius
        if rows["subject"].iloc[0] == "f":
            for i in np.flatnonzero(radius > data[f"upper_{rows['norm'].iloc[0]}"]):
                contradictions[i].append(str(method))
    data["contradictions"] = ["; ".join(methods) for methods in contradictions]
    return BOUNDS_TABLE.frame(data).assign(**lower)


def usable_radii(certificates: pd.DataFrame, images: pd.DataFrame) -> pd.Series[float]:
    """The radius of each row of certificates, 0 where it does not count."""
    return certificates["radius"].where(usable_rows(certificates, images), 0.0)


def usable_rows(certificates: pd.DataFrame, images: pd.DataFrame) -> pd.Series[bool]:
    """Whether the radius of each row counts: only for the image's label, and if the certificate did not abstain."""
    labels = certificates["image_id"].map(images.set_index("image_id")["label"])
    return (certificates["predicted"] == labels) & ~certificates["abstained"]


def refuted_proofs(bounds: pd.DataFrame) -> list[str]:
    """One line for each image with a witness inside a proven radius: one of the two is wrong."""
    found: dict[str, str] = {}
    # From the smallest norm on: that is the one the proof was made in.
    for norm in reversed(BALLS):
        for row in bounds[bounds[f"proof_{norm}"] > bounds[f"upper_{norm}"]].to_dict("records"):
            proof, witness = (f"{row[f'{side}_{norm}']:.9g}" for side in ("proof", "upper"))
            line = f"{row[f'proof_{norm}_method']} proves {norm} {proof}, the witness of {row[f'upper_{norm}_method']}"
            found.setdefault(row["image_id"], f"image {row['image_id']}: {line} lies at {witness}")
    return list(found.values())
