"""A verification of a sample: what it looks at, what it says that it did not, and numbers that were forged."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import robusteval as rv
from robusteval.auditing.verify import examine
from robusteval.models.making import make_classifier
from robusteval.results.files import checksum, read_cost, read_frame, write_frame
from robusteval.results.run import Run
from robusteval.results.tabulate import write_tables

PROTOCOL = """
[budgets]
linf = [0.5]
[[attacks]]
method = "pgd"
norm = "linf"
steps = 40
[[certificates]]
method = "ibp"
norm = "linf"
[[metrics]]
method = "covariance"
witnesses = "pgd-linf"
"""


@pytest.fixture(scope="module")
def audited(tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, nn.Module]:
    folder = tmp_path_factory.mktemp("sample")
    (folder / "p.toml").write_text(PROTOCOL)
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, 3))
    pixels = torch.rand(24, 1, 4, 4)
    data = pixels, network(pixels).argmax(1)
    return rv.audit(network, data, str(folder / "p.toml"), folder / "run", batch_size=12, device="cpu"), network


def found(run: Run, network: nn.Module, sample: int | None) -> dict[str, list[str]]:
    model = make_classifier("model", network, (1, 4, 4))
    by_kind: dict[str, list[str]] = {"wrong": [], "unchecked": [], "checked": [], "blocked": []}
    for finding in examine(run, model, sample=sample):
        by_kind[finding.kind].append(finding.line)
    return by_kind


def test_a_sample_is_looked_at_and_what_is_left_is_told(audited: tuple[Run, nn.Module]) -> None:
    run, network = audited
    whole, some = found(run, network, None), found(run, network, 1)
    assert whole["wrong"] == some["wrong"] == []
    assert not whole["blocked"]
    (line,) = [line for line in some["unchecked"] if "--sample" in line]
    assert "on 12 of 24 images" in line
    assert any("covariance, computed again" in line for line in some["checked"])


def test_what_is_forged_is_found_in_the_shards_of_the_sample_alone(audited: tuple[Run, nn.Module]) -> None:
    run, network = audited
    part = run.part("ibp-linf", "00001")
    before = part.read_bytes()
    rows = read_frame(part)
    write_frame(part, rows.assign(radius=rows["radius"] + 0.001), read_cost(part), {})
    try:
        write_tables(run)
        name = part.relative_to(run.path).as_posix()
        forged = run.updated(evidence={**run.manifest.evidence, name: checksum(part)})
        assert sum("ibp-linf" in line for line in found(forged, network, None)["wrong"]) == 12
        lines = [len(found(forged, network, 1)["wrong"]) for _ in range(20)]
        # One shard of two each time: the same one in 20 draws has a probability of 2e-6.
        assert set(lines) == {0, 12}
    finally:
        part.write_bytes(before)
