"""The seconds that models took are in what an attack, a stage and a whole audit say of their cost."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import torch
from torch import Tensor, nn

from robusteval.attacks.base import Candidates, FixedBudgetAttack
from robusteval.auditing.engines import Result, Work, local
from robusteval.auditing.protocol import parse_protocol
from robusteval.auditing.session import run_audit
from robusteval.auditing.stages.attack import AttackStage
from robusteval.auditing.stages.base import Context, Shard
from robusteval.auditing.verify import verify
from robusteval.core.images import Images
from robusteval.core.methods import Step
from robusteval.core.norms import Norm
from robusteval.core.registry import Origin
from robusteval.core.streams import Streams
from robusteval.models.classifier import Classifier
from robusteval.results.files import read_cost, write_frame
from robusteval.results.records import Cost, StageRecord
from sleeping import FORWARD, INSIDE, OUTSIDE, classifier, nap, pixels


@pytest.fixture(autouse=True)
def awake() -> None:
    INSIDE.clear()
    OUTSIDE.clear()


class Still(FixedBudgetAttack):
    """An attack that does not look at the model."""

    name = "still"
    summary = "returns the image"
    norms = (Norm.LINF,)

    def within(self, classifier: Classifier, images: Images, budget: Tensor, streams: Streams) -> Candidates:
        nap(FORWARD, OUTSIDE)
        return Candidates(images.pixels)


def images(model: Classifier, n: int) -> Images:
    x = pixels(n)
    found = Images(tuple(f"i{k}" for k in range(n)), x, model.module(x).argmax(1))
    INSIDE.clear()
    return found


def test_the_judge_is_timed_with_the_attack_though_it_is_not_counted() -> None:
    model = classifier()
    some = images(model, 3)
    begun = time.perf_counter()
    stage = AttackStage("still", Still(norm=Norm.LINF), Origin("here:Still", "tests", "0"), "still", (0.1,))
    part = stage.compute(Context(model, (), 0, opened=model), Shard("00000", some, correct=torch.tensor([True] * 3)))
    wall = time.perf_counter() - begun
    assert (part.cost.forwards, len(INSIDE), len(OUTSIDE)) == (0, 2, 1)
    assert sum(INSIDE) <= part.cost.model_seconds <= wall - sum(OUTSIDE)


def test_an_audit_says_of_every_stage_how_long_its_models_took(tmp_path: Path) -> None:
    taken: list[float] = []

    def engine(work: Work, shards: Iterable[Shard], step: Step) -> Iterator[Result]:
        for shard in shards:
            INSIDE.clear()
            (result,) = local(work, [shard], step)
            model_seconds = result.part.cost.model_seconds
            assert 0 < sum(INSIDE) <= model_seconds <= result.seconds
            taken.append(model_seconds)
            yield result

    model = classifier()
    protocol = parse_protocol(
        {
            "budgets": {"linf": [0.1, 0.3]},
            "attacks": [
                {"method": "pgd", "norm": "linf", "steps": 2},
                {"method": "pgd", "name": "short", "norm": "linf", "steps": 2, "search_dtype": "bfloat16"},
                {"method": "transfer", "norm": "linf", "steps": 2},
            ],
            "certificates": [{"method": "smoothing", "sigma": 0.1, "n0": 4, "n": 10}],
            "metrics": [
                {"method": "noise", "sigmas": [0.1], "samples": 2},
                {"method": "jacobian-spectrum", "ranks": 1},
                {"method": "activation-maximization", "steps": 2},
            ],
        },
        "p.toml",
    )
    source = replace(classifier(nn.Linear(4, 4)), name="source")
    found, out = images(model, 3), tmp_path / "run"
    run = run_audit(model, found, protocol, out, sources=[source], batch_size=2, device="cpu", engine=engine)
    costs = [stage.cost for stage in run.manifest.ran(StageRecord)]
    assert len(costs) == len(run.manifest.stages)
    assert all(0 < cost.model_seconds <= cost.seconds for cost in costs)
    assert sum(cost.model_seconds for cost in costs) == pytest.approx(sum(taken))
    assert list(verify(run, model)) == []


def test_a_part_keeps_its_cost(tmp_path: Path) -> None:
    path, cost = tmp_path / "part.parquet", Cost(seconds=2.0, forwards=3.0, backwards=1.0)
    write_frame(path, pd.DataFrame({"a": [1]}), cost)
    assert read_cost(path) == cost
    write_frame(path, pd.DataFrame({"a": [1]}))
    assert read_cost(path) == Cost()
