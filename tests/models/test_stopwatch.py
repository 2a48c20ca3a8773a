"""Time spent inside the model: every pass of it is timed once, and nothing else.

Layers that sleep make both bounds exact on any machine, however busy: what slept inside the model must be in its
seconds, and what slept outside must not be, so that wall time less the latter is the most that they can be.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from torch import Tensor, nn
from torch.autograd import grad

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
from robusteval.models.making import make_classifier
from robusteval.models.stopwatch import Stopwatch
from robusteval.numerics.jacobian import Linearised, jacobian
from robusteval.results.manifest import Cost, StageRecord
from robusteval.results.run import read_cost, write_frame

FORWARD, BACK, THROUGH = 0.004, 0.005, 0.006
"""Seconds that a slow layer sleeps in a pass forward, in one back, and in one back through that."""
SHAPE, CLASSES = (1, 3, 3), 3
INSIDE: list[float] = []
OUTSIDE: list[float] = []


@pytest.fixture(autouse=True)
def awake() -> None:
    INSIDE.clear()
    OUTSIDE.clear()


def nap(seconds: float, log: list[float]) -> None:
    time.sleep(seconds)
    log.append(seconds)


class _SlowBack(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, gradient: Tensor, log: list[float]) -> Tensor:
        ctx.log = log
        nap(BACK, log)
        return gradient.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        nap(THROUGH, ctx.log)
        return gradients[0].clone(), None


class _Slow(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, log: list[float]) -> Tensor:
        ctx.log = log
        nap(FORWARD, log)
        return x.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        return _SlowBack.apply(gradients[0], ctx.log), None  # type: ignore[no-untyped-call]


def slow(x: Tensor, log: list[float]) -> Tensor:
    """x itself, which takes a while in every direction."""
    y: Tensor = _Slow.apply(x, log)  # type: ignore[no-untyped-call]
    return y


class Sleepy(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return slow(x, INSIDE)


def classifier(*last: nn.Module) -> Classifier:
    torch.manual_seed(0)
    layers = (nn.Flatten(), Sleepy(), nn.Linear(9, 4), nn.Tanh(), *last, nn.Linear(4, CLASSES))
    model = make_classifier("sleepy", nn.Sequential(*layers), SHAPE)
    INSIDE.clear()
    return replace(model, batch_size=4)


def pixels(n: int = 2) -> Tensor:
    return torch.rand(n, *SHAPE, generator=torch.Generator().manual_seed(1))


def upstream() -> tuple[Tensor, Tensor]:
    """A leaf, and pixels that are made of it slowly."""
    leaf = pixels().requires_grad_()
    return leaf, slow(leaf, OUTSIDE)


def gradient(model: Classifier) -> None:
    model.gradient(pixels(), lambda logits: slow(logits, OUTSIDE)[:, 0])


def through_all(model: Classifier) -> None:
    leaf, x = upstream()
    grad(slow(model(x), OUTSIDE).sum(), leaf)


def of_two_calls(model: Classifier) -> None:
    leaf, x = upstream()
    one, other = (slow(model(x), OUTSIDE) for _ in range(2))
    grad((one + other).sum(), leaf)


def of_a_module(model: Classifier) -> None:
    x = pixels().double().requires_grad_()
    slow(model.as_module()(x), OUTSIDE).sum().backward()


def features(model: Classifier) -> None:
    jacobian(model.features, pixels())
    nap(BACK, OUTSIDE)


def linearised(model: Classifier) -> None:
    at = Linearised(lambda x: slow(model(x), OUTSIDE), pixels())
    at.push(torch.ones(2, 2, 9))
    at.pull(torch.ones(2, 1, CLASSES))


def curvature(model: Classifier, loss: Callable[[Tensor], Tensor]) -> None:
    x = pixels().requires_grad_()
    (g,) = grad(slow(loss(model(x)), OUTSIDE).sum(), x, create_graph=True)
    grad(slow(g, OUTSIDE).sum(), x)


def of_two_views(model: Classifier) -> None:
    for row in (0, 1):
        gradient(model.select(torch.tensor([row])))
    model.metered(2).predict(pixels())
    OUTSIDE.append(INSIDE.pop())  # booked elsewhere


def never_arriving(model: Classifier) -> None:
    """A pass back that ends at the logits, and a wait before the next pass."""
    logits = model(pixels().requires_grad_())
    grad(logits.sum(), logits)
    nap(0.02, OUTSIDE)
    model.predict(pixels())


def failing(model: Classifier) -> None:
    """Passes that end in an error, forward and back, each with a wait before the next pass."""

    def refuse(*_: object) -> None:
        raise ValueError("no")

    for begin in (
        lambda: model.module.register_forward_hook(refuse),
        lambda: model.module.network[0].register_full_backward_hook(refuse),  # type: ignore[union-attr, index]
    ):
        hook = begin()
        with pytest.raises(ValueError, match="no"):
            gradient(model)
        hook.remove()
        nap(0.03, OUTSIDE)
    INSIDE[:] = [FORWARD]  # what was begun and came to no end is not counted
    model.predict(pixels())


F, B, T = "forward", "back", "through"
CASES: dict[str, tuple[Callable[[Classifier], object], list[str]]] = {
    "predict, in batches": (lambda model: model.predict(pixels(5)), [F, F]),
    "gradient": (gradient, [F, B]),
    "pixels that are computed": (through_all, [F, B]),
    "two calls in one loss": (of_two_calls, [F, F, B, B]),
    "jacobian": (lambda model: model.jacobian(pixels()), [F, B, B, B]),
    "jacobian of the features": (features, [F, B, B, B, B]),
    "as_module": (of_a_module, [F, B]),
    "there, back, twice through, and back": (linearised, [F, B, T, T, B]),
    "curvature of a logit": (lambda model: curvature(model, lambda z: z[:, 0]), [F, B, T, B]),
    "curvature of a loss": (lambda model: curvature(model, lambda z: z.logsumexp(1)), [F, B, T, B]),
    "two views": (of_two_views, [F, B, F, B]),
    "a pass back that never arrives": (never_arriving, [F, F]),
    "passes that fail": (failing, [F, F]),
}


@pytest.mark.parametrize(("act", "passes"), CASES.values(), ids=CASES)
def test_each_pass_is_timed_once_and_nothing_else(act: Callable[[Classifier], object], passes: list[str]) -> None:
    model = classifier().metered(2)
    begun = time.perf_counter()
    act(model)
    wall = time.perf_counter() - begun
    assert sorted(INSIDE) == sorted({F: FORWARD, B: BACK, T: THROUGH}[p] for p in passes), "what the case is to do"
    assert sum(INSIDE) <= model.meter.stopwatch.seconds <= wall - sum(OUTSIDE)


def test_timing_changes_no_number() -> None:
    model, x = classifier(), pixels().requires_grad_()
    bare = model.module(x)
    assert torch.equal(model(x), bare)
    assert torch.equal(*(grad(logits.logsumexp(1).sum(), x)[0] for logits in (model(x), bare)))
    layouts: list[tuple[int, ...]] = []
    model.module.register_forward_pre_hook(lambda _, inputs: layouts.append(inputs[0].stride()))
    for layout in (torch.contiguous_format, torch.channels_last):
        x = torch.empty(2, *SHAPE, memory_format=layout).requires_grad_()
        model(x)
        assert layouts[-1] == x.stride(), "kernels are chosen by it"


def test_a_layer_that_lets_no_gradient_through_is_left_to_say_so() -> None:
    class Wall(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Tensor) -> Tensor:
            return x.clone()

        @staticmethod
        def backward(ctx: Any, *_: Tensor) -> None:
            return None

    class Walled(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            y: Tensor = Wall.apply(x)  # type: ignore[no-untyped-call]
            return y

    model = make_classifier("walled", nn.Sequential(Walled(), nn.Flatten(), nn.Linear(9, CLASSES)), SHAPE)
    x = pixels().requires_grad_()
    (found,) = grad(model(x).sum(), x, allow_unused=True)
    assert found is None


def test_a_stop_without_a_start_adds_nothing() -> None:
    watch = Stopwatch()
    watch.stop()
    watch.start(torch.device("cpu"))
    nap(FORWARD, INSIDE)
    watch.stop()
    seconds = watch.seconds
    nap(FORWARD, OUTSIDE)
    watch.stop()
    assert FORWARD <= seconds == watch.seconds


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_on_a_gpu_its_own_clock_counts() -> None:
    watch, device = Stopwatch(), torch.device("cuda")
    torch.cuda.synchronize()
    begun = time.perf_counter()
    for _ in range(3):
        watch.start(device)
        torch.cuda._sleep(10**8)
        watch.stop()
        torch.cuda._sleep(10**8)
    queued = time.perf_counter() - begun
    torch.cuda.synchronize()
    wall = time.perf_counter() - begun
    assert queued < 0.2 * wall, "nothing waited"
    assert 0.4 * wall < watch.seconds < 0.6 * wall


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
    part = stage.compute(Context(model, (), 0), Shard("00000", some, correct=torch.tensor([True] * 3)))
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
            "certificates": [{"method": "smoothing", "sigma": 0.1, "n0": 4, "n": 4}],
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
