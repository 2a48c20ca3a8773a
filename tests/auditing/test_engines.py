"""The seam of the engines: what they are given can be sent to another process, and comes back as the same parts."""

from __future__ import annotations

import pickle
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import pandas as pd
import pytest

from robusteval import Run, open_checkpoint, read_images, run_audit
from robusteval.auditing.engines import Engine, Result, Work
from robusteval.auditing.stages.base import Shard
from robusteval.auditing.stages.part import Part
from robusteval.core.images import Images
from robusteval.core.methods import Step
from robusteval.results.tables import TABLES

PROTOCOL = """
[budgets]
linf = ["8/255", 0.1]
[[attacks]]
method = "pgd"
norm = "linf"
steps = 5
[[certificates]]
method = "l-bound"
norm = "l2"
batches = 20
[[certificates]]
method = "ibp"
norm = "linf"
[[metrics]]
method = "jacobian-spectrum"
ranks = 3
witnesses = "pgd-linf"
[[metrics]]
method = "covariance"
witnesses = "pgd-linf"
"""


def compute(pickled: bytes) -> tuple[Part, float]:
    """In another process: nothing but the bytes is known there."""
    start = time.perf_counter()
    work, shard = pickle.loads(pickled)
    return work(shard), time.perf_counter() - start


@pytest.fixture
def elsewhere() -> Iterator[Engine]:
    """The last shard first, in another process."""
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:

        def engine(work: Work, shards: Iterable[Shard], step: Step) -> Iterator[Result]:
            for shard in reversed(list(shards)):
                part, seconds = pool.submit(compute, pickle.dumps((work, shard))).result()
                yield Result(shard, part, seconds)

        yield engine


@pytest.fixture(scope="module")
def images() -> Images:
    return read_images("digits", 10)


def audit(images: Images, demo: Path, protocol: Path, out: Path, **settings: object) -> Run:
    model = open_checkpoint(str(demo / "digits-standard.safetensors"), "digits-cnn", input_shape=images.shape)
    return run_audit(model, images, str(protocol), out, batch_size=5, device="cpu", **settings)  # type: ignore[arg-type]


@pytest.mark.slow
def test_shards_computed_in_other_processes_give_the_same_tables(
    images: Images, demo_folder: Path, tmp_path: Path, elsewhere: Engine
) -> None:
    (tmp_path / "p.toml").write_text(PROTOCOL)
    here = audit(images, demo_folder, tmp_path / "p.toml", tmp_path / "here")
    there = audit(images, demo_folder, tmp_path / "p.toml", tmp_path / "there", engine=elsewhere)
    for name in TABLES:
        pd.testing.assert_frame_equal(here.table(name), there.table(name), check_exact=True)
