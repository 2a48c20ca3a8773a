"""The per-image bound table, derived from the other tables, and what in it contradicts itself."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from robusteval.tables import BOUNDS, NORMS


def bracket(images: pd.DataFrame, witnesses: pd.DataFrame, certificates: pd.DataFrame) -> pd.DataFrame:
    """One row an image: the closest witness in each norm with the attack that found it (the first of equals),
    every lower bound as `lower_<method>`, and the certificates that a witness contradicts.

    One witness bounds every norm, since the judge measured its distance in all of them. A certificate is held
    against witnesses only where it speaks of the classifier f that was attacked.
    """
    ids = images["image_id"]
    data: dict[str, Any] = {c: images[c].to_numpy() for c in ("image_id", "label", "predicted", "correct")}
    found = witnesses[witnesses["success"]]
    for norm in NORMS:
        closest = found.sort_values(norm, kind="stable").drop_duplicates("image_id").set_index("image_id")
        wrong = ~images["correct"].to_numpy(bool)
        upper = closest[norm].reindex(ids).fillna(np.inf).to_numpy()
        by = closest["method"].reindex(ids).fillna("").to_numpy(object)
        data[f"upper_{norm}"] = np.where(wrong, 0.0, upper)
        data[f"upper_{norm}_method"] = np.where(wrong, "clean", by)
    lower: dict[str, Any] = {}
    contradictions: list[list[str]] = [[] for _ in ids]
    for method, rows in certificates.groupby("method", sort=False):
        radius = rows.set_index("image_id")["radius"].reindex(ids).to_numpy()
        lower[f"lower_{method}"] = radius
        if rows["subject"].iloc[0] == "f":
            for i in np.flatnonzero(radius > data[f"upper_{rows['norm'].iloc[0]}"]):
                contradictions[i].append(str(method))
    data["contradictions"] = ["; ".join(methods) for methods in contradictions]
    bounds = BOUNDS.frame(data)
    return bounds.assign(**lower)
