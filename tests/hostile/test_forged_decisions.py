"""Forgeries inside the tolerance of what is computed again, and claims that verify does not look at: each is named, or
listed as unchecked."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from forging import COUNT, audited, copied, sealed
from robusteval import Run, UserError, verify
from robusteval.auditing.verification.decisions import raised_radii, vanished
from robusteval.auditing.verify import examine
from robusteval.results.files import read_cost, read_frame, write_arrays, write_frame


@pytest.fixture(scope="module")
def honest(tmp_path_factory: pytest.TempPathFactory, demo_folder: Path) -> Run:
    """Without a source for its transfer attack, which is unavailable."""
    return audited(tmp_path_factory.mktemp("honest"), demo_folder, sources=False)


def radii(*values: float) -> pd.DataFrame:
    return pd.DataFrame({"image_id": [f"i{k}" for k in range(len(values))], "radius": values})


def test_a_radius_certifies_no_more_than_it_does_again() -> None:
    again = radii(0.0, 0.0999999, 0.1, 0.3, np.inf)
    assert list(raised_radii("s", again, again, [0.1, 0.2])) == []
    assert list(raised_radii("s", radii(0.0, 0.09, 0.0, 0.29999, 0.3), again, [0.1, 0.2])) == []
    assert list(raised_radii("s", radii(1e-300, 0.1, 0.1000001, 0.3, np.inf), again, [0.1, 0.2])) == [
        "s, image i0: radius is 1e-300, expected 0, nothing certified",
        "s, image i1: radius is 0.1, expected 0.0999999, below the budget 0.1",
    ]
    own = {"i1": 0.05, "i3": 0.3}
    assert list(
        raised_radii("s", radii(0.0, 0.1, 0.2, 0.3, np.inf), again.assign(radius=[0, 0.09, 0, 0.2, 9]), [], own)
    ) == [
        "s, image i2: radius is 0.2, expected 0, nothing certified",
        "s, image i3: radius is 0.3, expected 0.2, below the budget 0.3",
    ]


def test_a_gradient_that_vanishes_does_so_in_the_run() -> None:
    again = pd.DataFrame({"image_id": ["a", "b", "c"], "quantity": ["gradient_size"] * 2 + ["spread"], "value": 0.0})
    assert list(vanished("s", again, again)) == []
    (line,) = vanished("s", again.assign(value=[0.0, 1e-30, 1e-30]), again)
    assert line == "s, image b: gradient_size is 1e-30, expected 0: the gradient vanishes"
    (line,) = vanished("s", again.assign(value=[np.nan, 0.0, 0.0]), again)
    assert line.startswith("s, image a: gradient_size is nan")


def test_a_radius_a_little_above_0_is_named(honest: Run, tmp_path: Path) -> None:
    run, forged = copied(honest, tmp_path / "run"), 0
    for path in (run.path / "parts" / "smoothing-l2").glob("?????.parquet"):
        frame = read_frame(path)
        forged += int((frame["radius"] == 0).sum())
        write_frame(path, frame.assign(radius=frame["radius"].replace(0.0, 1e-12)), read_cost(path))
    assert forged
    lines = [line for line in verify(sealed(run), attacks=0) if "expected 0, nothing certified" in line]
    assert len(lines) == forged


def hidden(run: Run, stage: str) -> Run:
    """The run as if the attack had broken no image."""
    for path in (run.path / "parts" / stage).glob("?????.parquet"):
        frame = read_frame(path)
        labels = dict(run.table("images").set_index("image_id")["label"])
        frame = frame.assign(success=False, predicted=frame["image_id"].map(labels).astype(frame["predicted"].dtype))
        write_frame(path, frame.assign(l0=np.inf, l1=np.inf, l2=np.inf, linf=np.inf), read_cost(path))
    for path in (run.path / "witnesses" / stage).glob("?????.safetensors"):
        write_arrays(path, {})
    return sealed(run)


def test_hidden_witnesses_are_named_or_wait_for_the_device_of_the_audit(honest: Run, tmp_path: Path) -> None:
    run = hidden(copied(honest, tmp_path / "run"), "pgd-linf")
    assert any("success is False, expected True" in line for line in verify(run, attacks=3))
    elsewhere = run.updated(device="mps (of another kind)")
    with pytest.raises(UserError, match=r"stage pgd-linf: expected the device and the version of torch of the audit"):
        assert list(verify(elsewhere, attacks=None)) == []


@pytest.mark.parametrize(("count", "left"), [(0, COUNT), (3, COUNT - 3), (None, 0)])
def test_attacks_that_are_not_run_again_are_listed(honest: Run, count: int | None, left: int) -> None:
    lines = [f.line for f in examine(honest, attacks=count) if f.kind == "unchecked"]
    assert any(f"stages of attacks, on {left} of {COUNT} images" in line for line in lines) == bool(left)


def test_what_was_asked_to_be_left_out_is_listed(honest: Run) -> None:
    lines = [f.line for f in examine(honest, recompute=False, attacks=0) if f.kind == "unchecked"]
    for part in ("stages of attacks, on", "stage smoothing-l2", "stage transfer-linf: why it is unavailable"):
        assert any(part in line for line in lines), part
    assert any("sources" in line and "left out" in line for line in lines)
