"""The rows that a metric leaves are those of its values, however the images are cut into batches."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import robusteval as rv

PROTOCOL = """
[budgets]
linf = [0.03]

[[attacks]]
method = "fgsm"
norm = "linf"

[[metrics]]
method = "alignment"
witnesses = "fgsm-linf"
ranks = 3

[[metrics]]
method = "jacobian-spectrum"
witnesses = "fgsm-linf"
ranks = 3

[[metrics]]
method = "noise"
sigmas = [0.2]
samples = 3
"""
KEYS = ["method", "image_id", "quantity", "at"]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_rows_do_not_depend_on_the_batch_size(dtype: str, demo_folder: Path, tmp_path: Path) -> None:
    """A weak attack: some batches have no witness, some have one for a part of their images."""
    (tmp_path / "p.toml").write_text(PROTOCOL)
    images = rv.read_images("digits", 10)
    tables = []
    for size in (1, 4, 10):
        run = rv.audit(
            demo_folder / "digits-standard.safetensors",
            images,
            str(tmp_path / "p.toml"),
            tmp_path / str(size),
            arch="digits-cnn",
            dtype=dtype,
            batch_size=size,
            device="cpu",
        )
        assert list(rv.verify(run)) == []
        tables.append(run.table("measurements").sort_values(KEYS, ignore_index=True))
    first = tables[0]
    fooled = run.table("witnesses").set_index("image_id")["success"]
    assert 0 < fooled.sum() < len(images)
    aligned = first[first["method"] == "alignment-fgsm-linf"]
    assert set(aligned["image_id"]) == set(fooled[fooled].index)
    assert first["value"].notna().all()
    for other in tables[1:]:
        assert other[KEYS].equals(first[KEYS])
        np.testing.assert_allclose(other["value"], first["value"], rtol=1e-2, atol=1e-3)
