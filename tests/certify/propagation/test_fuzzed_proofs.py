"""No proof of a random network is refuted: in place, through views, with shared layers, hooks and branches."""

from __future__ import annotations

from collections import Counter

import pytest
import torch

import fuzz_proofs
from fuzz_proofs import METHODS, fuzz, network_of
from propagating import evaluated
from robusteval.certify.propagation import overwriting, program, trace
from robusteval.certify.propagation.crown import CROWN
from robusteval.core.errors import UnsupportedError

SEEDS = 40


@pytest.mark.slow
def test_no_proof_of_a_random_network_is_refuted() -> None:
    counts = Counter[str]()
    for seed in range(SEEDS):
        fuzz(seed, counts)
    assert counts["refuted"] == 0, counts
    # Much is certified, and some is refused: else nothing was tried.
    assert counts["networks certified"] > 0.6 * SEEDS
    assert all(counts[f"proofs by {name}"] > 3 * SEEDS for name in METHODS)
    assert sum(count for what, count in counts.items() if what.startswith("refused")) > 3
    assert not any("answers otherwise" in what for what in counts), counts


def compared(seeds: range) -> tuple[int, int]:
    """Of random networks: how many graphs could be read with nothing that compares values, and how many answer
    otherwise than their network."""
    read = wrong = 0
    for seed in seeds:
        try:
            classifier, pixels = network_of(seed)
            graph = trace.trace(classifier)
        except (UnsupportedError, ValueError):
            # The second are networks that torch itself cannot run.
            continue
        found = evaluated(graph, pixels)[-1].flatten(1)
        wrong += not torch.allclose(found, classifier.predict(pixels.clone()).double(), rtol=1e-3, atol=1e-4)
        read += 1
    return read, wrong


@pytest.fixture
def unguarded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trace, "check_answers", lambda *given: None)


@pytest.mark.usefixtures("unguarded")
def test_graphs_of_random_networks_need_no_guard() -> None:
    read, wrong = compared(range(150))
    assert read > 0.6 * 150
    assert wrong == 0


@pytest.mark.usefixtures("unguarded")
def test_without_the_refusals_graphs_of_random_networks_are_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(overwriting.Memory, "overwritten", lambda self, node: [])
        assert compared(range(40))[1] > 3
    monkeypatch.setattr(program, "refuse_unseen", lambda module, name: None)
    assert compared(range(80))[1] > 1


def test_the_attacks_of_the_fuzzer_are_no_sham(monkeypatch: pytest.MonkeyPatch) -> None:
    """Radii far beyond what is proven are refuted: by what a certificate tries itself, and by the fuzzer alone."""
    certified = CROWN.certified
    monkeypatch.setattr(CROWN, "certified", lambda self, *given: 8 * certified(self, *given))
    monkeypatch.setattr(fuzz_proofs, "METHODS", {"crown": {}})
    for tried in (True, False):
        if not tried:
            monkeypatch.setattr("robusteval.certify.base.stop_if_refuted", lambda *given: None)
        counts = Counter[str]()
        for seed in range(1, 9):
            fuzz(seed, counts)
        assert counts["refuted"] > 0, counts
