"""Small pictures for the report: an image, its closest witness, and what was added to it."""

from __future__ import annotations

import io
from base64 import b64encode
from collections import defaultdict
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image

from robusteval.audit.run import CLEAN, PICTURES, Run, witness_picture

LIMIT = 500
"""Pictures are embedded for so many images; more would make the file too large to open."""
SIDE = 64
"""Larger pictures are reduced to so many pixels a side."""


@dataclass(frozen=True)
class Thumbnails:
    """PNG data URIs; empty where there is no picture."""

    image: str = ""
    witness: str = ""
    perturbation: str = ""


def thumbnails(run: Run, norm: str) -> dict[str, Thumbnails]:
    """By image id, for the first LIMIT images. The witness is the closest in `norm` of all attacks."""
    ids = run.table("images")["image_id"].head(LIMIT).tolist()
    images = run.pictures(CLEAN)
    rows = run.table("witnesses")
    witnesses = closest(run, norm, rows[rows["image_id"].isin(ids)])
    found = {}
    for image_id in ids:
        image, witness = images.get(image_id), witnesses.get(image_id)
        if image is None:
            found[image_id] = Thumbnails()
        elif witness is None or witness.shape != image.shape:
            found[image_id] = Thumbnails(data_uri(image))
        else:
            found[image_id] = Thumbnails(data_uri(image), data_uri(witness), data_uri(rescaled(witness - image)))
    return found


def closest(run: Run, norm: str, rows: pd.DataFrame) -> PICTURES:
    """By image id, the picture of its closest witness in `norm` among `rows` of the table of witnesses, reading the
    evidence of one attack at a time. An image that is its own witness has none."""
    rows = rows[rows["success"] & (rows["l0"] > 0)]
    rows = rows.sort_values(norm, kind="stable").drop_duplicates("image_id")
    wanted: dict[str, list[tuple[str, float]]] = defaultdict(list)
    for stage, image_id, budget in zip(rows["method"], rows["image_id"], rows["budget"], strict=True):
        wanted[stage].append((image_id, budget))
    budgets = {entry["name"]: entry["budgets"] for entry in run.stages("attack")}
    found: PICTURES = {}
    for stage, keys in wanted.items():
        pictures = run.pictures(stage)
        own = budgets[stage]
        found |= {i: p for i, budget in keys if (p := witness_picture(pictures, i, budget, own)) is not None}
    return found


def rescaled(perturbation: NDArray[np.float32]) -> NDArray[np.float32]:
    """(C, H, W) with zero at mid-grey and the largest change at black or white."""
    largest = float(np.abs(perturbation).max()) or 1.0
    return (0.5 + 0.5 * perturbation / largest).astype(np.float32)


def data_uri(picture: NDArray[np.float32]) -> str:
    """A picture (C, H, W) in [0, 1] as a PNG."""
    data = io.BytesIO()
    small(picture).save(data, format="png")
    return f"data:image/png;base64,{b64encode(data.getvalue()).decode()}"


def small(picture: NDArray[np.float32], side: int = SIDE) -> Image.Image:
    """A picture (C, H, W) in [0, 1], reduced to `side` pixels a side if larger; grey unless it has three channels."""
    channels = picture if len(picture) == 3 else picture.mean(axis=0, keepdims=True)
    levels = np.round(np.clip(np.nan_to_num(channels), 0, 1) * 255).astype(np.uint8)
    image = Image.fromarray(levels.transpose(1, 2, 0) if len(levels) == 3 else levels[0])
    image.thumbnail((side, side))
    return image


def main_norm(budgets: dict[str, list[float]], rows: pd.DataFrame) -> str:
    """The protocol's main norm, that of its first budget; failing that, of the first attack."""
    return next(iter(budgets), None) or next(iter(rows["norm"]), "linf")
