"""Models that change while they are audited: what drifts is seen, what fools by itself is no witness, and answers that
are not finite are counted for the images that got them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from robusteval.analysis.summary import summarise
from robusteval.attacks.base import Candidates, FixedBudgetAttack
from robusteval.auditing.protocol import parse_protocol
from robusteval.auditing.session import run_audit
from robusteval.auditing.stages.attack import AttackStage
from robusteval.auditing.stages.base import Context, Shard
from robusteval.auditing.stages.budget_search import search_budgets
from robusteval.core.images import Images
from robusteval.core.norms import Norm
from robusteval.core.registry import Origin
from robusteval.core.streams import Streams
from robusteval.models.classifier import Classifier
from robusteval.models.making import make_classifier

SHAPE = (1, 2, 2)


class Lighter(FixedBudgetAttack):
    """An attack that adds its budget to every pixel."""

    name = "lighter"
    summary = "adds the budget"
    norms = (Norm.LINF,)

    def within(self, classifier: Classifier, images: Images, budget: Tensor, streams: Streams) -> Candidates:
        return Candidates((images.pixels + budget.view(-1, 1, 1, 1)).clamp(0, 1))


class After(nn.Module):
    """Two logits by the mean of the pixels, which another function changes from some call on."""

    calls = 0

    def __init__(self, calls: int, factor: float) -> None:
        super().__init__()
        self.register_buffer("place", torch.zeros(()))
        self.last, self.factor = calls, factor

    def forward(self, pixels: Tensor) -> Tensor:
        self.calls += 1
        score = pixels.flatten(1).mean(1) - 0.2
        score = score * self.factor if self.calls > self.last else score
        return torch.stack([score, -score], dim=1)


def images(n: int, first: float = 0.5) -> Images:
    pixels = torch.linspace(first, 0.9, n)[:, None, None, None].expand(n, *SHAPE).clone()
    return Images(tuple(f"i{k}" for k in range(n)), pixels, torch.zeros(n, dtype=torch.int64))


def test_a_change_after_the_first_look_is_seen_at_the_end(tmp_path: Path) -> None:
    attack = {"method": "pgd", "norm": "linf", "steps": 300}
    protocol = parse_protocol({"budgets": {"linf": [0.01]}, "attacks": [attack]}, "p.toml")
    flags = {}
    for name, factor in (("steady", 1.0), ("later", 1.01)):
        model = make_classifier(name, After(250, factor), SHAPE)
        run = run_audit(model, images(4), protocol, tmp_path / name, device="cpu", batch_size=4)
        flags[name] = {flag.name for flag in summarise(run).flags}
    assert "random-outputs" not in flags["steady"]
    assert "random-outputs" in flags["later"]


def test_an_image_that_is_misclassified_by_itself_later_is_no_witness() -> None:
    model = make_classifier("turning", After(0, 1.0), SHAPE)
    some = images(3)
    turning = model.module.get_submodule("network")
    assert isinstance(turning, After)
    # The judge of the search is the first call from here, the one of what it found the second.
    turning.last, turning.factor = turning.calls + 1, -1.0
    stage = AttackStage("lighter", Lighter(norm=Norm.LINF), Origin("here:Lighter", "tests", "0"), "lighter", (0.05,))
    part = stage.compute(Context(model, (), 0, opened=model), Shard("00000", some, correct=torch.ones(3).bool()))
    assert not part.rows["success"].any()
    assert part.arrays == {}


class Notch(nn.Module):
    """NaN for images lighter than 0.8."""

    def forward(self, pixels: Tensor) -> Tensor:
        mean = pixels.flatten(1).mean(1)
        score = torch.where(mean > 0.8, torch.nan, mean)
        return torch.stack([score, -score], dim=1)


def test_answers_that_are_not_finite_are_booked_to_their_own_images() -> None:
    model = make_classifier("notch", Notch(), SHAPE)
    pixels = torch.tensor([0.5, 0.75, 0.6, 0.7])[:, None, None, None].expand(4, *SHAPE)
    some = Images(("a", "b", "c", "d"), pixels, torch.zeros(4, dtype=torch.int64))
    target, correct = model.metered(4), torch.tensor([False, True, True, True])
    streams = Streams.for_images(0, "test", some.ids, pixels)
    search_budgets(Lighter(norm=Norm.LINF), model, target, some, correct, np.full((4, 1), 0.07), streams)
    assert (target.meter.non_finite_answers > 0).tolist() == [False, True, False, False]
