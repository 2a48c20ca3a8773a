"""Gradient masking: models masked on purpose raise their flags, honest ones none of the serious."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from masking_cases import LINF, network, raised
from torch import Tensor, nn
from torch.nn import functional

from robusteval import run_audit, verify
from robusteval.analysis.masking import flags
from robusteval.core.images import Images
from robusteval.core.norms import Norm
from robusteval.metrics.gradient_masking import GradientMasking
from robusteval.models.making import make_classifier

L2 = LINF.model_copy(update={"norm": Norm.L2, "budget": 0.5})


class Changed(nn.Module):
    """A network between what is done to the image and what is done to the logits."""

    def __init__(self, network: nn.Module, before: Callable[[Tensor], Tensor], after: Callable[[Tensor], Tensor]):
        super().__init__()
        self.network, self.before, self.after = network, before, after

    def forward(self, x: Tensor) -> Tensor:
        return self.after(self.network(self.before(x)))


def same(x: Tensor) -> Tensor:
    return x


class Jitter:
    """Random changes from a generator of its own, as a defence would have."""

    def __init__(self) -> None:
        self.generator = torch.Generator().manual_seed(0)

    def noise(self, x: Tensor) -> Tensor:
        return x + 0.1 * torch.randn(x.shape, generator=self.generator)

    def resize(self, x: Tensor) -> Tensor:
        """Each batch at a side of 7 or 8, padded at random places to 8, as Xie et al. (2018)."""
        size, left, top = torch.randint(2, (3,), generator=self.generator).tolist()
        size, left, top = 8 - size, left * size, top * size
        smaller = functional.interpolate(x, (size, size), mode="bilinear", align_corners=False)
        return functional.pad(smaller, (left, 8 - size - left, top, 8 - size - top))


class Drift:
    """Every evaluation adds a little to the first class, so that outputs depend on the time."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, logits: Tensor) -> Tensor:
        self.calls += 1
        return logits + 1e-3 * self.calls * functional.one_hot(torch.tensor(0), logits.shape[1])


MASKED: dict[str, tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor], set[str]]] = {
    "saturated softmax": (
        same,
        lambda z: (1e4 * z).softmax(1),
        {"unavailable-gradients", "unconstrained-attack-failure", "probability-outputs"},
    ),
    "temperature": (
        same,
        lambda z: 1e4 * z,
        {"vanishing-gradients", "unconstrained-attack-failure", "gradient-free-wins"},
    ),
    "quantised input": (
        lambda x: (8 * x).round() / 8,
        same,
        {"unavailable-gradients", "unconstrained-attack-failure", "gradient-free-wins"},
    ),
    "detached": (lambda x: x.detach(), same, {"unavailable-gradients"}),
    "numpy": (lambda x: torch.from_numpy(x.numpy()), same, {"unavailable-gradients"}),
    "noise": (Jitter().noise, same, {"random-outputs"}),
    "resizing": (Jitter().resize, same, {"random-outputs", "unstable-predictions", "transfer-failure"}),
    "drift": (same, Drift(), {"random-outputs"}),
    "softmax": (same, lambda z: z.softmax(1), {"probability-outputs"}),
    "not a number": (same, lambda z: z + (z.detach() * 0).sqrt() * (z - z.detach()).sqrt(), {"vanishing-gradients"}),
}


@pytest.mark.parametrize("name", MASKED)
def test_a_masked_model_raises_its_flags(name: str, digits: Images, demo_folder: Path, tmp_path: Path) -> None:
    before, after, expected = MASKED[name]
    model = make_classifier(name, Changed(network(demo_folder, "digits-standard").module, before, after), digits.shape)
    found = raised(LINF, model, digits, tmp_path)
    names = {f.name for f in found}
    assert expected <= names
    if name in ("softmax", "saturated softmax", "temperature", "quantised input", "detached", "numpy"):
        # A model without randomness: nothing but what its mask does.
        assert names <= expected | {"incomplete-optimisation"}
    assert all(f.evidence and f.threshold and f.mitigation for f in found)


@pytest.mark.parametrize("metric", [LINF, L2], ids=["linf", "l2"])
@pytest.mark.parametrize("name", ["digits-standard", "digits-pgd-linf", "digits-pgd-l2"])
def test_an_honest_model_raises_nothing_serious(
    name: str, metric: GradientMasking, digits: Images, demo_folder: Path, tmp_path: Path
) -> None:
    found = raised(metric, network(demo_folder, name), digits, tmp_path)
    assert {f.name for f in found} <= {"incomplete-optimisation"}


PROTOCOL = """
[budgets]
linf = [0.1, 0.6]
[[attacks]]
method = "pgd"
norm = "linf"
steps = 10
[[metrics]]
method = "gradient-masking"
budget = "26/255"
steps = 10
queries = 20
samples = 5
"""


def test_an_audit_of_a_masked_model(digits: Images, demo_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "small.toml").write_text(PROTOCOL)
    model = network(demo_folder, "digits-standard")
    saturated = make_classifier("saturated", Changed(model.module, same, lambda z: (1e4 * z).softmax(1)), digits.shape)
    honest, masked = (
        run_audit(m, digits, str(tmp_path / "small.toml"), tmp_path / m.name, batch_size=16) for m in (model, saturated)
    )
    assert list(verify(honest)) == []
    assert {f.name for f in flags(honest)} <= {"incomplete-optimisation"}
    found = {f.name: f for f in flags(masked)}
    assert found["unconstrained-attack-failure"].evidence.count("withstand") == 2, "by PGD at 0.6, and by the metric"
    assert {"unavailable-gradients", "probability-outputs"} < set(found)


def test_flags_import_no_torch() -> None:
    code = "import sys, robusteval.analysis.masking; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
