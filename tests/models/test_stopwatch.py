"""Time spent inside the model: every pass of it is timed once, and nothing else."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.autograd import grad

from robusteval.models.classifier import Classifier
from robusteval.models.making import make_classifier
from robusteval.models.stopwatch import Stopwatch
from robusteval.numerics.jacobian import Linearised, jacobian
from sleeping import BACK, CLASSES, FORWARD, INSIDE, OUTSIDE, SHAPE, THROUGH, classifier, nap, pixels, slow


@pytest.fixture(autouse=True)
def awake() -> None:
    INSIDE.clear()
    OUTSIDE.clear()


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
    "jacobian of the features": (features, [F, F, B, B, B, B]),
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
