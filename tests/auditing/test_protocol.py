"""Protocols: what ships is valid; every mistake names the file, the method and the setting."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest

from robusteval.auditing.budgets import parse_budgets
from robusteval.auditing.plan import plan
from robusteval.auditing.protocol import available_protocols, parse_protocol, read_protocol
from robusteval.core.errors import UserError
from robusteval.core.norms import Norm


@pytest.mark.parametrize("name", available_protocols())
def test_shipped_protocols_are_valid_and_survive_the_manifest(name: str) -> None:
    protocol = read_protocol(name)
    assert protocol.name == name
    assert protocol.description
    assert parse_protocol(protocol.as_json(), "manifest.json") == protocol


def test_a_protocol_reads_fractions_and_labels(protocol_file: Path) -> None:
    protocol = read_protocol(str(protocol_file))
    assert protocol.budgets[Norm.LINF] == (8 / 255, 0.1)
    assert [e.label for e in protocol.attacks][:2] == ["pgd-linf", "pgd-targeted-l2"]


def _entry(**settings: Any) -> dict[str, Any]:
    return {"budgets": {"linf": [0.1]}, "attacks": [{"method": "pgd", "norm": "linf"} | settings]}


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (_entry(method="pgdd"), r"x.toml.*'pgdd'.*did you mean 'pgd'"),
        (_entry(stepss=3), r"x.toml, attack 'pgd'.*'stepss'.*did you mean 'steps'"),
        (_entry(steps=0), r"x.toml, attack 'pgd'.*got 0 for 'steps'"),
        (_entry(norm="l3"), r"x.toml, attack 'pgd'.*'l3'"),
        (_entry(norm="l2"), r"expected budgets.l2 in x.toml for 'pgd-l2', got none"),
        (_entry(name="../up"), r"expected a name of letters.*'../up'"),
        (_entry(budgets=["a/b"]), r"expected numbers or fractions.*'a/b'"),
        (_entry(budgets=[-1]), r"expected budgets above zero"),
        ({"attack": []}, r"x.toml.*'attack'.*did you mean 'attacks'"),
        ({"budgets": {"l3": [1]}}, r"norm in \[budgets\] of x.toml, got 'l3'"),
        ({}, r"at least one method in x.toml"),
        ({"attacks": [*_entry()["attacks"]] * 2, "budgets": {"linf": [0.1]}}, r"distinct names.*'pgd-linf' twice"),
        (
            _entry() | {"metrics": [{"method": "jacobian-spectrum", "witnesses": "pgd"}]},
            r"did you mean 'pgd-linf'",
        ),
    ],
)
def test_mistakes_are_named(data: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        parse_protocol(data, "x.toml")


def test_unknown_protocol_names_the_nearest() -> None:
    with pytest.raises(UserError, match="did you mean 'standard-linf'"):
        read_protocol("standart-linf")


def test_broken_toml_names_the_file(tmp_path: Path) -> None:
    path = tmp_path / "broken.toml"
    path.write_text("[[attacks]\n")
    with pytest.raises(UserError, match=r"broken\.toml"):
        read_protocol(str(path))


def test_budgets_are_sorted_and_distinct() -> None:
    assert parse_budgets(["8/255", 0.01, 0.01], "here") == (0.01, 8 / 255)


def test_transfer_without_sources_is_planned_as_unavailable(protocol_file: Path) -> None:
    stages = {s.name: s for s in plan(read_protocol(str(protocol_file)))}
    assert "got none" in stages["transfer-linf"].unavailable
    assert not stages["pgd-linf"].unavailable


def test_everything_covers_every_registered_method() -> None:
    """But the one that compiles for half a minute before it begins, and wants a package of its own for it."""
    from robusteval.attacks import ATTACKS
    from robusteval.certify import CERTIFICATES
    from robusteval.metrics import METRICS

    data = tomllib.loads(available_protocols()["everything"].read_text())
    used = {entry["method"] for kind in ("attacks", "certificates", "metrics") for entry in data[kind]}
    assert used == {*ATTACKS, *CERTIFICATES, *METRICS} - {"brendel-bethge"}


@pytest.mark.parametrize("name", available_protocols())
def test_a_protocol_with_attacks_looks_for_gradient_masking(name: str) -> None:
    protocol = read_protocol(name)
    if protocol.attacks:
        assert any(entry.method.name == "gradient-masking" for entry in protocol.metrics)
