"""`--sample N`: a random subset of the images by seed, which a run names, continues and verifies."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import robusteval as rv
from commands import here
from robusteval.core.images import Images
from robusteval.results.run import Run

SMALL = """
[budgets]
linf = [0.1]
[[attacks]]
method = "fgsm"
norm = "linf"
[[certificates]]
method = "ibp"
norm = "linf"
"""


def numbered(n: int) -> Images:
    return Images(tuple(f"{i:03d}" for i in range(n)), torch.zeros(n, 1, 2, 2), torch.arange(n), source="numbers")


def test_a_sample_is_drawn_without_replacement_by_seed_whatever_the_order() -> None:
    images = numbered(100)
    drawn = images.sample(30, 5)
    assert len(set(drawn.ids)) == 30
    assert list(drawn.ids) == sorted(drawn.ids) != list(images.ids[:30])
    assert [int(i) for i in drawn.ids] == drawn.labels.tolist()
    shuffled = images.select(torch.randperm(100, generator=torch.Generator().manual_seed(1)))
    assert set(shuffled.sample(30, 5).ids) == set(drawn.ids)
    assert set(images.sample(30, 6).ids) != set(drawn.ids)
    assert images.sample(100, 5).ids == images.ids
    assert drawn.source == "numbers (drawn at random, seed 5)"


def test_every_image_is_as_likely() -> None:
    """Of 400 samples of 5 of 10 each image is in half: Binomial(400, 1/2), standard deviation 10; five of them."""
    images, counts = numbered(10), torch.zeros(10)
    for seed in range(400):
        counts[images.sample(5, seed).labels] += 1
    assert (counts - 200).abs().max() < 50
    assert counts.std() > 1


@pytest.mark.parametrize("count", [0, -1, 101])
def test_a_sample_that_cannot_be_drawn_is_refused(count: int) -> None:
    with pytest.raises(rv.UserError, match=rf"--sample from 1 to 100, the images of numbers, got {count}"):
        numbered(100).sample(count, 0)


@pytest.mark.parametrize("command", ["audit", "certify"])
def test_a_run_of_a_sample_is_named_continued_and_verified(command: str, tmp_path: Path, demo_folder: Path) -> None:
    (tmp_path / "p.toml").write_text(SMALL)
    model, out = demo_folder / "digits-standard.safetensors", tmp_path / "run"
    asked = [
        command,
        model,
        "--arch",
        "digits-cnn",
        "--data",
        "digits",
        "--protocol",
        tmp_path / "p.toml",
        "--out",
        out,
    ]
    done = here(*asked, "--sample", 7, "--seed", 3)
    assert done.returncode == 0, done.stderr
    run = Run.open(out)
    data = run.manifest.data
    assert (data.count, data.sample, data.limit) == (7, 7, None)
    expected = rv.read_images("digits").sample(7, 3)
    assert set(run.bounds()["image_id"]) == set(expected.ids) != set(rv.read_images("digits", 7).ids)
    assert "digits (drawn at random, seed 3)" in (out / "report.md").read_text()
    # A part that is missing is computed again, of the same images; other images are refused.
    next((out / "parts").glob("[fi]*/*.parquet")).unlink()
    assert here(*asked, "--sample", 7, "--seed", 3).returncode == 0
    for others in (["--sample", 7, "--seed", 4], ["--sample", 8, "--seed", 3], ["--limit", 7, "--seed", 3]):
        refused = here(*asked, *others)
        assert refused.returncode == 2
        assert "expected the data set of the run" in refused.stderr
    assert here("verify", out).returncode == 0
    both = here(*asked, "--sample", 7, "--limit", 7)
    assert both.returncode == 2
    assert "expected --limit or --sample, got both" in both.stderr


def test_python_takes_a_sample_too(tmp_path: Path, demo_folder: Path) -> None:
    (tmp_path / "p.toml").write_text(SMALL)
    model, digits = demo_folder / "digits-standard.safetensors", rv.read_images("digits")
    expected = set(digits.sample(5, 2).ids)
    given: list[str | Images] = ["digits", digits]
    for i, data in enumerate(given):
        run = rv.audit(model, data, str(tmp_path / "p.toml"), tmp_path / str(i), arch="digits-cnn", sample=5, seed=2)
        assert set(run.bounds()["image_id"]) == expected
        assert run.manifest.data.sample == 5
    with pytest.raises(rv.UserError, match="got both"):
        rv.audit(model, digits, out=tmp_path / "x", arch="digits-cnn", sample=5, limit=5)


def test_a_limit_with_sample_draws_as_many(tmp_path: Path, demo_folder: Path) -> None:
    """--limit 7 --sample is --sample 7, wherever it stands; without a number anywhere it is a mistake."""
    (tmp_path / "p.toml").write_text(SMALL)
    model, out = demo_folder / "digits-standard.safetensors", tmp_path / "run"
    asked = ["--arch", "digits-cnn", "--data", "digits", "--protocol", tmp_path / "p.toml"]
    assert here("audit", "--sample", model, *asked, "--limit", 7, "--out", out).returncode == 0
    data = Run.open(out).manifest.data
    assert (data.count, data.sample, data.limit) == (7, 7, None)
    assert set(Run.open(out).bounds()["image_id"]) == set(rv.read_images("digits").sample(7, 0).ids)
    assert here("audit", model, *asked, "--out", out, "--sample", 7).returncode == 0
    assert here("verify", out, "--data", "digits").returncode == 0
    alone = here("audit", model, *asked, "--out", tmp_path / "other", "--sample")
    assert alone.returncode == 2
    assert "--limit N --sample or --sample N" in alone.stderr
    run = rv.audit(
        model, "digits", str(tmp_path / "p.toml"), tmp_path / "python", arch="digits-cnn", limit=5, sample=True
    )
    assert set(run.bounds()["image_id"]) == set(rv.read_images("digits").sample(5, 0).ids)
