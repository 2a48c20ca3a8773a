"""A verification of runs that keep the images of some or of none: what it checks, what it names, what it finds."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import robusteval as rv
from commands import here
from forging import copied, sealed
from robusteval.auditing.verify import examine
from robusteval.core.images import Images
from robusteval.models.classifier import Classifier
from robusteval.models.making import make_classifier
from robusteval.models.plain import as_images
from robusteval.results import keeping
from robusteval.results.files import read_arrays, read_beside, read_cost, read_frame, write_arrays, write_frame
from robusteval.results.run import Run

KEPT = 9
PROTOCOL = """
[budgets]
linf = [0.1, 0.5]
[[attacks]]
method = "pgd"
norm = "linf"
steps = 10
[[attacks]]
method = "polish"
norm = "linf"
steps = 3
[[certificates]]
method = "ibp"
norm = "linf"
[[certificates]]
method = "l-bound"
norm = "l2"
batches = 5
[[metrics]]
method = "covariance"
witnesses = "pgd-linf"
[[metrics]]
method = "noise"
sigmas = [0.2]
samples = 2
"""
Audited = tuple[dict[str, Run], Classifier, Images]


@pytest.fixture(scope="module")
def audited(tmp_path_factory: pytest.TempPathFactory) -> Audited:
    folder = tmp_path_factory.mktemp("evidence")
    (folder / "p.toml").write_text(PROTOCOL)
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, 3))
    pixels = torch.rand(24, 1, 4, 4)
    labels = network(pixels).argmax(1)
    labels[3] = (labels[3] + 1) % 3
    model, images = make_classifier("model", network, (1, 4, 4)), as_images(pixels, labels, source="drawn")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(keeping, "SAMPLE", KEPT)
        protocol = str(folder / "p.toml")
        runs = {
            kind: rv.audit(model, images, protocol, folder / kind, evidence=kind, batch_size=5, device="cpu")
            for kind in ("all", "sample", "none")
        }
    return runs, model, images


@pytest.fixture(autouse=True)
def small_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeping, "SAMPLE", KEPT)


def found(run: Run, model: Classifier, data: Images | None = None, attacks: int | None = 3) -> dict[str, list[str]]:
    lines: dict[str, list[str]] = {"wrong": [], "unchecked": [], "checked": [], "blocked": []}
    for finding in examine(run, model, data=data, attacks=attacks):
        lines[finding.kind].append(finding.line)
    return lines


@pytest.mark.parametrize("kind", ["all", "sample", "none"])
@pytest.mark.parametrize("with_data", [False, True])
@pytest.mark.parametrize("attacks", [3, None])
def test_nothing_is_wrong_with_an_honest_run(kind: str, with_data: bool, attacks: int | None, audited: Audited) -> None:
    runs, model, images = audited
    lines = found(runs[kind], model, images if with_data else None, attacks)
    assert lines["wrong"] == lines["blocked"] == []
    bare = [line for line in lines["unchecked"] if "--evidence" in line]
    assert bool(bare) == (kind != "all")


def test_what_has_no_evidence_is_named_with_its_number(audited: Audited) -> None:
    runs, model, images = audited
    some, none = (found(runs[kind], model)["unchecked"] for kind in ("sample", "none"))
    for stage in ("clean", "pgd-linf", "polish-linf", "ibp-linf", "l-bound-l2", "gaussian-noise"):
        assert any(line.startswith(f"stage {stage}, on 15 of 24 images") for line in some), stage
    for stage in ("covariance", "repeat"):
        assert any(line.startswith(f"stage {stage}, on 24 of 24 images") for line in some), stage
    assert any(line.startswith("stages, on all 24 images") for line in none)
    with_data = found(runs["none"], model, images)["unchecked"]
    assert any(line.startswith("stage pgd-linf, on 24 of 24 images: its witnesses") for line in with_data)
    assert not any("ibp-linf" in line or "data.fingerprint" in line for line in with_data)


def raise_radii(run: Run) -> None:
    for path in sorted((run.path / "parts" / "ibp-linf").glob("?????.parquet")):
        rows = read_frame(path)
        write_frame(path, rows.assign(radius=rows["radius"] + 0.001), read_cost(path), read_beside(path))


def shorten(run: Run) -> None:
    """Every witness said to be closer than it is."""
    for path in sorted((run.path / "parts" / "pgd-linf").glob("?????.parquet")):
        rows = read_frame(path)
        write_frame(path, rows.assign(linf=rows["linf"] * 0.5), read_cost(path), read_beside(path))


def forget(run: Run) -> None:
    """Every image said to have no witness."""
    for path in sorted((run.path / "parts" / "pgd-linf").glob("?????.parquet")):
        rows = read_frame(path)
        for norm in ("l0", "l1", "l2", "linf"):
            rows[norm] = rows[norm].where(rows[norm] == 0, np.inf)
        write_frame(path, rows.assign(success=rows["linf"] == 0), read_cost(path), read_beside(path))


@pytest.mark.parametrize(
    ("forge", "kind", "with_data", "attacks", "seen"),
    [
        (raise_radii, "sample", False, 0, KEPT),
        (raise_radii, "none", False, 0, 0),
        (raise_radii, "sample", True, 0, 24),
        (raise_radii, "none", True, 0, 24),
        (shorten, "sample", False, 0, 1),
        (shorten, "none", True, 0, 0),
        (shorten, "none", True, None, 1),
        (forget, "none", True, 0, 0),
        (forget, "none", True, None, 1),
    ],
)
def test_what_is_forged_is_found_where_there_is_evidence(
    forge: Callable[[Run], None],
    kind: str,
    with_data: bool,
    attacks: int | None,
    seen: int,
    audited: Audited,
    tmp_path: Path,
) -> None:
    """And where there is none, it is told that nothing was looked at."""
    runs, model, images = audited
    run = copied(runs[kind], tmp_path / "forged")
    forge(run)
    lines = found(sealed(run), model, images if with_data else None, attacks)
    assert not lines["blocked"]
    own = [line for line in lines["wrong"] if "ibp-linf" in line or "pgd-linf" in line]
    assert len(own) >= seen
    assert bool(own) == bool(seen)
    assert any("--evidence" in line and "images" in line for line in lines["unchecked"])


def test_images_that_are_taken_away_are_missed(audited: Audited, tmp_path: Path) -> None:
    runs, model, images = audited
    for stage, said in (("clean", "every image that is kept"), ("pgd-linf", "no image of it is kept")):
        run = copied(runs["sample"], tmp_path / stage)
        for path in (run.path / "witnesses" / stage).iterdir():
            path.unlink()
        assert any(said in line for line in found(sealed(run), model)["wrong"])
    run = copied(runs["sample"], tmp_path / "more")
    extra = run.array_file("clean", "00000")
    other = next(i for i in images.ids[:5] if i not in runs["sample"].arrays("clean"))
    arrays = read_arrays(extra) if extra.exists() else {}
    write_arrays(extra, arrays | {other: images.pixels[images.ids.index(other)].numpy()})
    assert any(f"{other} is none of the stage" in line for line in found(sealed(run), model, images)["wrong"])


def test_pictures_of_other_images_are_found_by_their_data(audited: Audited) -> None:
    runs, model, images = audited
    others = Images(images.ids, 1 - images.pixels, images.labels, source=images.source)
    assert sum("pixels are not those" in line for line in found(runs["sample"], model, others)["wrong"]) == KEPT
    assert any("data.fingerprint" in line for line in found(runs["none"], model, others)["wrong"])
    few = images.first(20)
    assert sum("is no image of" in line for line in found(runs["none"], model, few)["wrong"]) == 4


@pytest.mark.slow
def test_every_method_without_images(demo_folder: Path, tmp_path: Path) -> None:
    model = demo_folder / "digits-standard.safetensors"
    asked = ("--arch", "digits-cnn", "--data", "digits", "--limit", 5, "--protocol", "everything")
    done = here("audit", model, *asked, "--evidence", "none", "--out", tmp_path / "run")
    assert done.returncode == 0, done.stderr
    done = here("verify", tmp_path / "run", "--data", "digits")
    assert done.returncode == 0, done.stderr
