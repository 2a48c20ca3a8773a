"""Fixtures shared by the tests of whole audits."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import settings

if TYPE_CHECKING:
    from robusteval.core.images import Images
    from robusteval.results.run import Run

# Tests run in several processes; before torch is loaded, give each one core.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# What numba compiles in the tests runs for less time than it takes to optimise it.
os.environ.setdefault("NUMBA_OPT", "0")

# No deadlines: shared machines pause for seconds.
settings.register_profile("robusteval", deadline=None)
settings.load_profile("robusteval")


PROTOCOL = """
name = "small"
description = "Own methods only, in small settings"

[budgets]
linf = ["8/255", 0.1]
l2 = [0.5]

[[attacks]]
method = "pgd"
norm = "linf"
steps = 5
restarts = 2

[[attacks]]
method = "pgd"
name = "pgd-targeted-l2"
norm = "l2"
steps = 5
loss = "margin"
target = "random"

[[attacks]]
method = "fgsm"
norm = "linf"

[[attacks]]
method = "lrc"
norm = "l2"
samples = 20

[[attacks]]
method = "uniform-noise"
norm = "linf"
samples = 10

[[attacks]]
method = "transfer"
norm = "linf"

[[certificates]]
method = "l-bound"
norm = "l2"
batches = 20

[[certificates]]
method = "omega-bound"
norm = "linf"
grid = [0.01, 0.05]
batches = 10

[[certificates]]
method = "smoothing"
sigma = 0.25
n0 = 20
n = 100

[calibration]
delta = 0.2

[[metrics]]
method = "noise"
sigmas = [0.1, 0.3]
samples = 5

[[metrics]]
method = "jacobian-spectrum"
ranks = 5
witnesses = "pgd-linf"
"""


@pytest.fixture(scope="session")
def protocol_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("protocol") / "small.toml"
    path.write_text(PROTOCOL)
    return path


@pytest.fixture(scope="session")
def demo_folder() -> Path:
    import robusteval

    return Path(str(robusteval.__file__)).parent / "demo"


@pytest.fixture(scope="session")
def digits() -> Images:
    """The first forty of scikit-learn's."""
    from robusteval.data import read_images

    return read_images("digits", 40)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A small finished run of which every number is known (run_fixture.py)."""
    from run_fixture import build_run

    return build_run(tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="module")
def page(run: Run) -> str:
    """The report.html of that run."""
    from robusteval.reports import write_report

    return write_report(run).read_text()


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """Headless Chromium, driven by playwright; the tests that need it are skipped with the reason where it is not."""
    from visiting import CHROMIUM

    if not CHROMIUM.exists():
        pytest.skip(f"the browser tests need Debian's chromium at {CHROMIUM}, which is not installed")
    sync_api = pytest.importorskip("playwright.sync_api", reason="the browser tests need playwright")
    quiet = ["--disable-background-networking", "--disable-component-update", "--disable-sync", "--no-first-run"]
    with sync_api.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(
            executable_path=str(CHROMIUM), args=["--no-sandbox", "--disable-gpu", *quiet]
        )
        yield chromium
        chromium.close()
