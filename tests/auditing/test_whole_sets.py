"""What is measured on, or learned from, the whole set, shard by shard or where the images lie: the same to the last bit
however that is cut, whoever computes it, and after a kill, and never with all pixels in memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from robusteval import Run, audit, open_checkpoint, read_images
from robusteval.auditing import hardware, session
from robusteval.auditing.hardware import Throughput
from robusteval.auditing.verify import examine
from robusteval.certify.extreme_value.l_bound import LBound
from robusteval.core import memory, stored
from robusteval.core.images import Images
from robusteval.core.norms import Norm
from robusteval.core.progress import Silent
from robusteval.core.stored import StoredPixels
from robusteval.core.streams import Streams
from robusteval.metrics.softmax_line import SoftmaxLine
from robusteval.metrics.targeted_grid import TargetedGrid
from robusteval.metrics.whole_set import GatheringMetric
from robusteval.models.classifier import Classifier
from robusteval.models.gathering import Gathering
from robusteval.results.run import NEEDED
from same_runs import differences

OWN = '''
import robusteval as rv
from robusteval.core.methods import Quantity, Statistic
from robusteval.metrics.base import Observation
from robusteval.metrics.whole_set import GatheringMetric


class Brightness(rv.SetMetric):
    """The mean of all pixels."""

    name, title, summary = "brightness", "Brightness", "mean of the pixels"
    quantities = (Quantity(name="brightness", title="mean of the pixels"),)

    def observe(self, classifier, images, witnesses, streams, step):
        return Observation([Statistic("brightness", 0, float(images.pixels.mean()))])


class Darkest(GatheringMetric):
    """The least mean of an image."""

    name, title, summary = "darkest", "Darkest", "least mean of the pixels of an image"
    quantities = (Quantity(name="darkest", title="least mean of an image"),)

    def gather(self, classifier, images, witnesses, streams):
        return {"means": images.pixels.flatten(1).mean(1)}

    def conclude(self, classifier, gathered, streams, step):
        return Observation([Statistic("darkest", 0, float(gathered["means"].min()))])
'''
PROTOCOL = """
[budgets]
linf = [0.1]
[[attacks]]
method = "pgd"
norm = "linf"
steps = 3
[[certificates]]
method = "l-bound"
norm = "l2"
batches = 20
[[metrics]]
method = "covariance"
witnesses = "pgd-linf"
[[metrics]]
method = "softmax-line"
points = 5
[[metrics]]
name = "at-witnesses"
method = "softmax-line"
witnesses = "pgd-linf"
points = 5
[[metrics]]
method = "targeted-grid"
norm = "linf"
budget = 0.1
steps = 3
[[metrics]]
method = "kernels"
[[metrics]]
method = "own.py:Brightness"
[[metrics]]
method = "own.py:Darkest"
"""
N, BATCH = 30, 4


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory, demo_folder: Path) -> tuple[Classifier, Images, Path]:
    folder = tmp_path_factory.mktemp("sets")
    (folder / "own.py").write_text(OWN, encoding="utf-8", newline="\n")
    (folder / "p.toml").write_text(PROTOCOL, encoding="utf-8", newline="\n")
    model = open_checkpoint(demo_folder / "digits-standard.safetensors", "digits-cnn", input_shape=(1, 8, 8))
    return model, read_images("digits", N), folder


def audited(asked: tuple[Classifier, Images, Path], name: str, **options: Any) -> Run:
    model, images, folder = asked
    images = options.pop("images", images)
    return audit(model, images, str(folder / "p.toml"), folder / name, device="cpu", **options)


@pytest.fixture(scope="module")
def one(asked: tuple[Classifier, Images, Path]) -> Run:
    return audited(asked, "one", batch_size=BATCH)


def test_shards_of_several_batches_give_the_same(
    asked: tuple[Classifier, Images, Path], one: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session, "best_throughput", lambda *_: Throughput(BATCH, 1e-6))
    monkeypatch.setattr(hardware, "_SHARDS", N / (3 * BATCH))
    several = audited(asked, "several")
    assert (one.manifest.batches, several.manifest.batches) == (1, 3)
    for name in ("statistics", "measurements", "certificates"):
        assert one.table(name).equals(several.table(name))
    for stage in ("softmax-line", "at-witnesses", "l-bound-l2", "targeted-grid-linf"):
        costs = [run.manifest.stage(stage).cost for run in (one, several)]
        assert costs[0].forwards == pytest.approx(costs[1].forwards)
        assert costs[0].backwards == pytest.approx(costs[1].backwards)


def test_two_workers_give_the_same(asked: tuple[Classifier, Images, Path], one: Run) -> None:
    assert one.manifest.complete
    torch.set_num_threads(1)
    assert differences(one, audited(asked, "workers", batch_size=BATCH, workers=2), pages=False) == []


def test_it_is_what_plain_tensors_give(asked: tuple[Classifier, Images, Path], one: Run) -> None:
    model, images, _ = asked
    ordered = images.by_id()
    certified = LBound(norm=Norm.L2, batches=20)(model, ordered.pixels, ordered.labels, batch_size=BATCH)
    of_set = {s.quantity: s.value for s in certified.statistics if s.quantity != "maximum"}
    grid = TargetedGrid(norm=Norm.LINF, budget=0.1, steps=3)(model, ordered.pixels, ordered.labels)
    statistics = one.table("statistics")
    found = statistics[statistics["method"] == "l-bound-l2"].set_index("quantity")["value"]
    assert found["observed_maximum"] == pytest.approx(of_set["observed_maximum"], rel=1e-5)
    rows = statistics[statistics["method"] == "targeted-grid-linf"]
    assert {(q, at) for q, at in rows[["quantity", "at"]].itertuples(index=False)} == grid.statistics.keys()
    own = statistics[statistics["method"].isin(["brightness", "darkest"])].set_index("quantity")["value"]
    assert own["brightness"] == pytest.approx(float(images.pixels.mean()), rel=1e-5)
    assert own["darkest"] == pytest.approx(float(images.pixels.flatten(1).mean(1).min()), rel=1e-5)


def test_nothing_of_it_is_wrong_or_left_behind(one: Run, asked: tuple[Classifier, Images, Path]) -> None:
    assert not (one.path / NEEDED).exists()
    found = list(examine(one, asked[0], trusted=[asked[2] / "own.py"]))
    assert [f.line for f in found if f.kind in ("wrong", "blocked")] == []


class Stop(Silent):
    """Ends the audit once so many images of a stage are there."""

    def __init__(self, stage: str, images: int) -> None:
        self._stage, self._left, self._runs = stage, images, False

    def stage(self, name: str, done: int, total: int) -> None:
        self._runs = name.startswith(self._stage)

    def advance(self, done: int) -> None:
        self._left -= done if self._runs else 0
        if self._runs and self._left <= 0:
            raise KeyboardInterrupt


@pytest.fixture
def gathered_of(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many images each `gather` of lines looked at."""
    seen: list[int] = []
    inner = SoftmaxLine.gather

    def watched(self: SoftmaxLine, classifier: Classifier, images: Images, *rest: Any) -> dict[str, Tensor]:
        seen.append(len(images))
        return inner(self, classifier, images, *rest)

    monkeypatch.setattr(SoftmaxLine, "gather", watched)
    return seen


@pytest.mark.parametrize("damaged", ["", ".safetensors", ".parquet"])
def test_what_was_gathered_is_not_gathered_again(
    damaged: str, asked: tuple[Classifier, Images, Path], one: Run, gathered_of: list[int]
) -> None:
    name = f"killed{damaged}"
    with pytest.raises(KeyboardInterrupt):
        audited(asked, name, batch_size=BATCH, progress=Stop("softmax-line", 3 * BATCH))
    assert gathered_of == [BATCH] * 3
    there = sorted((asked[2] / name / NEEDED / "softmax-line").iterdir())
    assert len(there) == 6
    for path in there[:2]:
        if damaged and path.suffix == damaged:
            path.write_bytes(path.read_bytes()[:-9])
    gathered_of.clear()
    run = audited(asked, name, batch_size=BATCH)
    own = N - (2 if damaged else 3) * BATCH
    assert sum(gathered_of) == own + N  # and all for the stage that comes after
    assert differences(one, run, pages=False) == []


def test_a_witness_that_is_computed_again_is_gathered_again(
    asked: tuple[Classifier, Images, Path], one: Run, gathered_of: list[int]
) -> None:
    with pytest.raises(KeyboardInterrupt):
        audited(asked, "again", batch_size=BATCH, progress=Stop("at-witnesses", N))
    (asked[2] / "again" / "parts" / "pgd-linf" / "00001.parquet").unlink()
    gathered_of.clear()
    run = audited(asked, "again", batch_size=BATCH)
    assert gathered_of == [BATCH]
    assert differences(one, run, pages=False) == []


def test_what_a_failed_method_gathered_is_there_when_it_is_tried_again(
    asked: tuple[Classifier, Images, Path], one: Run, monkeypatch: pytest.MonkeyPatch, gathered_of: list[int]
) -> None:
    with monkeypatch.context() as broken:
        broken.setattr(SoftmaxLine, "conclude", lambda *_: 1 / 0)
        run = audited(asked, "failed", batch_size=BATCH)
    assert {s.name for s in run.manifest.failed} == {"softmax-line", "at-witnesses"}
    assert len(list((run.path / NEEDED).rglob("*.parquet"))) == 2 * -(-N // BATCH)
    lines = [f for f in examine(run, asked[0], trusted=[asked[2] / "own.py"]) if "needed/" in f.line]
    assert {f.kind for f in lines} == {"unchecked"}
    gathered_of.clear()
    assert differences(one, audited(asked, "failed", batch_size=BATCH), pages=False) == []
    assert gathered_of == []


def test_no_more_pixels_are_read_than_fit(
    asked: tuple[Classifier, Images, Path], one: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a metric of one's own that reads all at once, all."""
    images = asked[1]
    lying = StoredPixels(lambda places: images.pixels[places], torch.arange(N), images.shape)
    seen: list[tuple[str, int]] = []
    inner, running = StoredPixels.read, Running()

    def watched(self: StoredPixels) -> Tensor:
        seen.append((running.name, len(self.places)))
        return inner(self)

    monkeypatch.setattr(StoredPixels, "read", watched)
    monkeypatch.setattr("robusteval.core.images.BLOCK", 5 * 64)
    assert stored.BLOCK > 5 * 64
    with memory.at_most(6 * 15 * 8):
        run = audited(
            asked,
            "lying",
            batch_size=BATCH,
            images=Images(images.ids, lying, images.labels, images.class_names, images.source, images.class_count),
            progress=running,
        )
    assert run.manifest.complete
    stages = [s.name for s in run.manifest.stages if s.name in ("covariance", "softmax-line", "at-witnesses")]
    stages += ["targeted-grid-linf", "l-bound-l2", "darkest"]
    most = {name: max(n for stage, n in seen if stage.partition(",")[0] == name) for name in [*stages, "brightness"]}
    assert most.pop("brightness") == N
    assert max(most.values()) <= 6
    rows = [
        t[t["method"].isin(["softmax-line", "darkest"])].reset_index(drop=True)
        for t in (one.table("statistics"), run.table("statistics"))
    ]
    assert rows[0].equals(rows[1])


class Running(Silent):
    """Knows the name of the stage that runs."""

    name = ""

    def stage(self, name: str, done: int, total: int) -> None:
        self.name = name


def test_every_merge_is_associative_to_the_last_bit_and_keeps_the_order(asked: tuple[Classifier, Images, Path]) -> None:
    model, images, _ = asked
    methods: list[Gathering] = [
        LBound(norm=Norm.L2),
        SoftmaxLine(points=5, shown=5),
        TargetedGrid(norm=Norm.LINF, budget=0.1),
    ]
    known = {type(m) for m in methods}
    assert {m for m in _below(Gathering) if m.__module__.startswith("robusteval.") and "name" in vars(m)} <= known
    for method in methods:
        parts = []
        for rows in torch.arange(N).split(7):
            some = images.select(rows)
            streams = method.each(Streams.for_set(0, "x", images.pixels), some)
            parts.append(method.gather(model.metered(len(some)), some, None, streams))
        left, right = parts[0], parts[-1]
        for part in parts[1:]:
            left = method.merged(left, part)
        for part in reversed(parts[:-1]):
            right = method.merged(part, right)
        assert left.keys() == right.keys()
        assert all(torch.equal(left[name].nan_to_num(), right[name].nan_to_num()) for name in left)
        # In the order of the images.
        streams = method.each(Streams.for_set(0, "x", images.pixels), images)
        whole = method.gather(model.metered(N), images, None, streams)
        torch.testing.assert_close(left, whole, rtol=1e-3, atol=1e-4, equal_nan=True)
    assert issubclass(SoftmaxLine, GatheringMetric)


def _below(kind: type) -> set[type]:
    return {kind}.union(*map(_below, kind.__subclasses__()))
