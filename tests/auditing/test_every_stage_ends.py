"""Every stage of a run has a name of its own and ends: done, unavailable, or failed with its reason."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from robusteval.attacks import ATTACKS
from robusteval.auditing.plan import plan
from robusteval.auditing.protocol import parse_protocol
from robusteval.auditing.session import run_audit
from robusteval.certify import CERTIFICATES
from robusteval.core.errors import UserError
from robusteval.core.images import Images
from robusteval.core.methods import Method
from robusteval.core.registry import Registry
from robusteval.metrics import METRICS
from robusteval.models.making import make_classifier

SHAPE = (1, 4, 4)
KINDS: dict[str, Registry[Any]] = {"attacks": ATTACKS, "certificates": CERTIFICATES, "metrics": METRICS}
FIRST = {"attacks": "fgsm", "certificates": "ibp", "metrics": "noise"}
BUDGETS = {"linf": [0.1], "l2": [0.5], "l1": [1.0], "l0": [2.0]}


@dataclass(frozen=True)
class Source:
    name: str


def images() -> Images:
    torch.manual_seed(0)
    return Images(("a", "b"), torch.rand(2, *SHAPE), torch.tensor([0, 1]))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["clean", "sanity", "repeat", "Clean", "SANITY", "rePeat"])
def test_no_method_takes_the_name_of_a_stage_of_every_audit(kind: str, name: str) -> None:
    entry = _entry(KINDS[kind], FIRST[kind]) | {"name": name}
    with pytest.raises(UserError, match=f"expected a name of its own in p.toml, got '{name}'"):
        parse_protocol({"budgets": BUDGETS, kind: [entry]}, "p.toml")


def test_no_label_that_a_method_makes_itself_is_taken() -> None:
    for kind, registry in KINDS.items():
        for name in registry:
            parse_protocol(
                {"budgets": BUDGETS, "attacks": _witnesses(), kind: [*_other(registry, name, kind)]}, "p.toml"
            )


@pytest.mark.parametrize(
    "labels",
    [["transfer-linf-from-one"], ["TRANSFER-linf-From-One"], ["transfer-linf-from-one", "transfer-linf-from-one-1"]],
)
def test_transfer_stages_take_no_name_of_the_protocol(labels: list[str]) -> None:
    attacks = [
        {"method": "transfer", "norm": "linf"},
        *({"method": "fgsm", "norm": "linf", "name": label} for label in labels[:1]),
    ]
    metrics = [{"method": "noise", "name": label} for label in labels[1:]]
    protocol = parse_protocol({"budgets": BUDGETS, "attacks": attacks, "metrics": metrics}, "p.toml")
    names = [s.name for s in plan(protocol, [Source("one"), Source("ONE"), Source("o/ne"), Source("o_ne")])]
    assert max(Counter(name.casefold() for name in names).values()) == 1
    assert len([name for name in names if name.startswith("transfer-")]) >= 4


class Network(nn.Module):
    """Two classes by two halves of an image; an error on anything off the images themselves, if `picky`."""

    def __init__(self, known: Tensor, picky: bool) -> None:
        super().__init__()
        self.register_buffer("known", known.flatten(1))
        self.linear, self.picky = nn.Linear(16, 2), picky

    def forward(self, pixels: Tensor) -> Tensor:
        known = self.get_buffer("known")
        if self.picky and not (pixels.flatten(1)[:, None] == known).all(-1).any(-1).all():
            raise ValueError("another image")
        out: Tensor = self.linear(pixels.flatten(1))
        return out


@pytest.mark.parametrize("picky", [False, True])
def test_every_stage_of_a_run_ends(picky: bool, tmp_path: Path) -> None:
    """One attack, certificate and metric after another of the registries that need no setting of their own."""
    some = images()
    torch.manual_seed(1)
    known = torch.cat([some.pixels, torch.full((1, *SHAPE), 0.5)])
    model = make_classifier("halves", Network(known, picky), SHAPE)
    data: dict[str, Any] = {"budgets": BUDGETS, "attacks": [], "certificates": [], "metrics": []}
    for kind, names in QUICK.items():
        for name in names:
            data[kind].append(_entry(KINDS[kind], name))
    run = run_audit(model, some, parse_protocol(data, "p.toml"), tmp_path / "run", device="cpu", batch_size=2)
    ended = {s.name: s.status for s in run.manifest.stages}
    assert set(ended.values()) <= {"done", "unavailable", "failed"}
    assert all(s.reason for s in run.manifest.stages if not s.done)
    assert ("failed" in ended.values()) == picky
    assert run.manifest.complete == (not picky)


QUICK = {
    "attacks": ("fgsm", "transfer", "deepfool", "uniform-noise"),
    "certificates": ("ibp", "lipschitz"),
    "metrics": ("noise", "prediction-distance"),
}


def _entry(registry: Registry[Any], name: str) -> dict[str, Any]:
    """The least that a protocol says of a method."""
    found: type[Method] = registry.find(name)[0]
    values = {"norm": "linf", "witnesses": "fgsm-linf", "budget": 0.1, "sigma": 0.25, "sigmas": [0.25], "radius": 0.1}
    needed = {
        key: values[key] for key, field in found.model_fields.items() if field.is_required() or key == "witnesses"
    }
    if "norm" in needed and getattr(found, "norms", None):
        needed["norm"] = found.norms[0].value  # type: ignore[attr-defined]
    return {"method": name} | needed


def _witnesses() -> list[dict[str, Any]]:
    return [_entry(ATTACKS, "fgsm") | {"norm": "linf"}]


def _other(registry: Registry[Any], name: str, kind: str) -> list[dict[str, Any]]:
    """The method, and of an attack the one whose witnesses others ask for."""
    own = [_entry(registry, name)]
    return [*_witnesses(), *own] if kind == "attacks" and name != "fgsm" else own
