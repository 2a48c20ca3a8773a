"""The examples of README and docs, run as they stand."""

from __future__ import annotations

import doctest
from pathlib import Path

import pytest

import robusteval

ROOT = Path(__file__).parents[1]
PAGES = [path for path in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))) if ">>> " in path.read_text()]


def test_there_are_examples_to_run() -> None:
    assert {"README.md", "python.md"} <= {path.name for path in PAGES}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_examples_of_a_page(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a folder of their own; README's reader has a network and its images at hand."""
    monkeypatch.chdir(tmp_path)
    images = robusteval.read_images("digits", 10)
    checkpoint = Path(robusteval.__file__).parent / "demo" / "digits-standard.safetensors"
    model = robusteval.open_checkpoint(checkpoint, "digits-cnn", input_shape=images.shape)
    at_hand = {"net": model.module, "x": images.pixels, "y": images.labels}
    options = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    found = doctest.testfile(str(page), module_relative=False, globs=at_hand, optionflags=options)
    assert found.attempted > 2
    assert found.failed == 0, f"{found.failed} examples of {page.name} failed: see the output above"
