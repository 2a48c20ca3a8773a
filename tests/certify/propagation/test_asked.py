"""Proofs that are asked at given radii: what the search proves is proven there, nothing else, and at less cost."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from propagating import F64, images_for, proven, small
from robusteval import Run, UserError, open_checkpoint, read_images, run_audit, verify
from robusteval.analysis.results import Results
from robusteval.auditing.asked import asked_at
from robusteval.auditing.protocol import parse_protocol
from robusteval.certify import CERTIFICATES
from robusteval.certify.propagation.ball import InputBall
from robusteval.certify.propagation.graph import Graph
from robusteval.certify.propagation.ibp import IBP
from robusteval.core.norms import Norm
from robusteval.core.streams import Streams

NAMES = ("ibp", "crown", "lipschitz")


def radii_at(name: str, norm: Norm, at: Any, network: str = "pooled") -> Tensor:
    classifier = small(network)
    images = images_for(classifier, 6)
    certificate = CERTIFICATES[name].model_validate({"norm": norm, "at": at})
    streams = Streams.for_images(0, name, images.ids, images.pixels)
    state = certificate.prepare(classifier, images, streams, lambda done, total: None)
    return certificate.radii(classifier.metered(6), images, state, streams).radius


@pytest.mark.parametrize("norm", [Norm.L1, Norm.L2, Norm.LINF])
@pytest.mark.parametrize("name", NAMES)
def test_the_largest_radius_asked_that_is_proven(name: str, norm: Norm) -> None:
    classifier = small("pooled")
    images = images_for(classifier, 6)
    searched = proven(name, norm, classifier, images)
    middle = float(searched[searched > 0].median())
    at = [middle / 4, middle * 0.99, middle * 3]
    found = radii_at(name, norm, at)
    wanted = torch.tensor([max([a for a in at if a <= r], default=0.0) for r in searched.tolist()], dtype=F64)
    # The search stops within 1 % of what it could prove.
    further = torch.tensor([any(r < a <= r * 1.03 for a in at) for r in searched.tolist()])
    assert torch.equal(found[~further], wanted[~further])
    assert (found >= wanted).all()
    assert (found > 0).any()


def test_a_radius_for_each_image() -> None:
    classifier = small("pooled")
    images = images_for(classifier, 6)
    searched = proven("crown", Norm.LINF, classifier, images)
    shares = torch.tensor([0.5, 2.0] * 3, dtype=F64)
    at = dict(zip(images.ids, (shares * searched.clamp_min(1e-3)).tolist(), strict=True))
    found = radii_at("crown", Norm.LINF, at)
    assert torch.equal(found, torch.where(shares < 1, 0.5 * searched, 0.0))
    del at[images.ids[3]]
    with pytest.raises(UserError, match=f"expected a radius for each image .* none for '{images.ids[3]}'"):
        radii_at("crown", Norm.LINF, at)


def test_a_question_costs_one_bound_computation_and_open_images_go_on() -> None:
    class Counted(IBP):
        def margins(self, graph: Graph, ball: InputBall, labels: Tensor) -> Tensor:
            computed.append(len(labels))
            return super().margins(graph, ball, labels)

    computed: list[int] = []
    classifier = small("dense")
    images = images_for(classifier, 6)
    right = int((classifier.predict(images.pixels).argmax(1) == images.labels).sum())
    Counted(norm=Norm.LINF, at=(1e-9, 1.0))(classifier, images.pixels, images.labels)
    assert computed == [right, right]
    computed.clear()
    Counted(norm=Norm.LINF, at=(1e-9, 1e-8))(classifier, images.pixels, images.labels)
    assert computed == [right]


@pytest.mark.parametrize("value", [0, -1, "8/0", "much", [0.1, 0], {"a": "b"}, [[0.1]], True, "nan"])
def test_what_is_no_radius_is_refused(value: object) -> None:
    with pytest.raises(ValidationError) as error:
        CERTIFICATES["crown"].model_validate({"norm": "linf", "at": value})
    assert "expected" in str(error.value)


def test_radii_are_read_as_budgets_are() -> None:
    for value in (["8/255", "4/255"], [8 / 255, "4/255", 4 / 255]):
        certificate = CERTIFICATES["crown"].model_validate({"norm": "linf", "at": value})
        assert certificate.model_dump()["at"] == (4 / 255, 8 / 255)
        assert certificate.limit == 8 / 255
    assert CERTIFICATES["crown"].model_validate({"norm": "linf", "at": []}).limit is None
    assert CERTIFICATES["ibp"].model_validate({"norm": "l2", "at": "1/2"}).heading() == "IBP at 0.5 (proof), L2"


def test_the_budgets_of_a_protocol_are_no_radii_outside_of_one() -> None:
    with pytest.raises(UserError, match='in place of at = "budgets" outside of a protocol'):
        radii_at("ibp", Norm.LINF, "budgets")


def audit(folder: Path, demo_folder: Path, budgets: Mapping[str, Any], count: int = 8) -> tuple[Run, Any]:
    images = read_images("digits", count)
    model = open_checkpoint(str(demo_folder / "digits-pgd-linf.safetensors"), "digits-cnn", input_shape=images.shape)
    methods = [{"method": name, "norm": "linf", "at": "budgets"} for name in NAMES]
    asked = parse_protocol({"budgets": budgets, "certificates": methods}, "p.toml")
    return run_audit(model, images, asked, folder / "run", batch_size=5), model


def test_certified_accuracy_at_the_budgets_of_a_protocol(tmp_path: Path, demo_folder: Path) -> None:
    run, model = audit(tmp_path, demo_folder, {"linf": ["1/255", 0.03]})
    rows = run.table("certificates")
    assert set(rows["radius"]) <= {0, 1 / 255, 0.03}
    crown = rows[rows["method"] == "crown-linf"].set_index("image_id")["radius"]
    images = read_images("digits", 8)
    found = CERTIFICATES["crown"].model_validate({"norm": "linf"})(model, images.pixels, images.labels)
    searched = dict(zip(images.ids, found.radius.tolist(), strict=True))
    assert {i: r >= 0.03 for i, r in searched.items()} == (crown >= 0.03).to_dict()
    assert run.manifest.protocol.certificates[0]["at"] == [1 / 255, 0.03]
    assert [c.limit for c in Results(run).certificates_ran] == [0.03] * 3
    assert list(verify(run, model, data=images)) == []


def test_each_image_at_its_own_budget(tmp_path: Path, demo_folder: Path) -> None:
    own = {image_id: 0.001 if i % 2 else 0.9 for i, image_id in enumerate(read_images("digits", 8).ids)}
    run, model = audit(tmp_path, demo_folder, {"linf": own})
    rows = run.table("certificates")
    crown = rows[rows["method"] == "crown-linf"].set_index("image_id")["radius"]
    assert crown.to_dict() == {i: b if b < 0.5 else 0.0 for i, b in own.items()}
    assert run.manifest.protocol.certificates[0]["at"] == "budgets"
    assert list(verify(run, model, data=read_images("digits", 8))) == []


def test_budgets_that_a_protocol_has_not(tmp_path: Path) -> None:
    data = {"budgets": {"l2": [0.1]}, "certificates": [{"method": "ibp", "norm": "linf", "at": "budgets"}]}
    with pytest.raises(UserError, match=r"p\.toml, certificate 'ibp-linf': expected budgets in Linf .* got none"):
        parse_protocol(data, "p.toml")


def test_a_protocol_can_be_asked_at_one_budget() -> None:
    names = ("crown", "lipschitz", "l-bound")
    protocol = parse_protocol({"certificates": [{"method": n, "norm": "linf"} for n in names]}, "p.toml")
    asked = asked_at(protocol, Norm.LINF, 0.25)
    assert [e.method.limit for e in asked.certificates] == [0.25, 0.25, None]
    assert asked_at(protocol, Norm.L2, 0.25) is protocol
