"""Two shards are computed twice: what differs is flagged, and nothing of a model and methods that are functions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from robusteval import Run, verify
from robusteval.analysis.summary import summarise
from robusteval.auditing.protocol import Protocol, parse_protocol, read_protocol
from robusteval.auditing.session import run_audit
from robusteval.auditing.stages.twice import changes
from robusteval.core.images import Images
from robusteval.models.checkpoints import open_checkpoint
from robusteval.results.records import DIFFERS, REPEAT

PLUGIN = """
import os
import random
import time
import torch
from robusteval.attacks.base import Candidates, FixedBudgetAttack
from robusteval.core.norms import Norm

class Careless(FixedBudgetAttack):
    name = "careless"
    title = "Careless"
    summary = "Noise of a generator that nobody seeds"
    norms = (Norm.LINF,)

    def within(self, classifier, images, budget, streams):
        generator = torch.Generator().manual_seed({seed})
        noise = torch.rand(images.pixels.shape, generator=generator)
        return Candidates((images.pixels + budget.view(-1, 1, 1, 1) * (2 * noise - 1)).clamp(0, 1))
"""
LIMIT = """if classifier.batch_size > self.most:
            raise MemoryError
        time.sleep(0.1 * (self.most > 3))  # the longer of the two is computed again
        """
UNSEEDED = "random.SystemRandom().randrange(2**60)"
SIZED = (
    PLUGIN.replace("generator =", LIMIT + "generator =")
    .replace("Careless", "Sized")
    .replace('name = "careless"', 'name = "sized"\n    most: int = 100')
    .format(seed="classifier.batch_size")
)
SMALL = {
    "budgets": {"linf": [0.1, 0.9]},
    "attacks": [{"method": "fgsm", "norm": "linf"}, {"method": "pgd", "norm": "linf", "steps": 60}],
    "metrics": [{"method": "noise", "sigmas": [0.1], "samples": 4}],
}


def audited(
    folder: Path, data: Images, protocol: Protocol, out: Path, dtype: str = "float32", name: str = "standard"
) -> Run:
    model = open_checkpoint(folder / f"digits-{name}.safetensors", "digits-cnn", input_shape=data.shape)
    return run_audit(model, data, protocol, out, device="cpu", batch_size=6, dtype=dtype)


def differing(run: Run) -> pd.DataFrame:
    rows = run.table("measurements")
    return rows[rows["quantity"].str.startswith(DIFFERS)]


def flagged(run: Run) -> list[str]:
    return [f.evidence for f in summarise(run).flags if f.name == "differing-repetition"]


def careless(folder: Path, seed: str) -> Protocol:
    (folder / "plugin.py").write_text(PLUGIN.format(seed=seed))
    text = '[budgets]\nlinf = [0.9]\n[[attacks]]\nmethod = "plugin.py:Careless"\nnorm = "linf"\n'
    (folder / "p.toml").write_text(text + '[[attacks]]\nmethod = "pgd"\nnorm = "linf"\nsteps = 20\n')
    return read_protocol(str(folder / "p.toml"))


def test_an_attack_with_a_generator_of_its_own_is_named(demo_folder: Path, digits: Images, tmp_path: Path) -> None:
    """Careful: the same with a seed is not."""
    for seed, wrong in ((UNSEEDED, True), ("3", False)):
        folder = tmp_path / str(wrong)
        folder.mkdir()
        run = audited(demo_folder, digits.first(12), careless(folder, seed), folder / "run")
        rows, said = differing(run), flagged(run)
        assert bool(len(rows)) == wrong
        assert len(said) == int(wrong)
        if wrong:
            assert set(rows["quantity"]) == {f"{DIFFERS}careless-linf"}
            assert set(rows["image_id"]) <= set(digits.ids)
            assert str(rows["image_id"].iloc[int(rows["value"].to_numpy().argmax())]) in said[0]
            trusted = [folder / "plugin.py"]
            assert list(verify(run, trusted=trusted, attacks=0)) == [], "what differed is taken as it is"


@pytest.mark.parametrize("name", ["standard", "pgd-linf", "pgd-l2"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_what_is_a_function_is_never_named(
    dtype: str, name: str, demo_folder: Path, digits: Images, tmp_path: Path
) -> None:
    run = audited(demo_folder, digits.first(6), parse_protocol(SMALL, "p.toml"), tmp_path / "run", dtype, name)
    assert differing(run).empty
    assert not flagged(run)
    assert list(verify(run)) == []


@pytest.mark.parametrize(("seed", "wrong"), [("int(os.environ['MACHINE'])", False), (UNSEEDED, True)])
def test_what_another_machine_computed_is_computed_twice_here(
    demo_folder: Path, digits: Images, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: str, wrong: bool
) -> None:
    """An audit that is continued where another result is the right one; an attack that nobody seeds is named there,
    too."""
    protocol = careless(tmp_path, seed)
    monkeypatch.setenv("MACHINE", "1")
    first = audited(demo_folder, digits.first(12), protocol, tmp_path / "run")
    assert bool(flagged(first)) == wrong
    first.part(REPEAT, "00000").unlink()
    monkeypatch.setenv("MACHINE", "2")
    run = audited(demo_folder, digits.first(12), protocol, tmp_path / "run")
    assert bool(len(differing(run))) == wrong
    assert bool(flagged(run)) == wrong


def test_what_was_computed_with_more_images_at_a_time_is_computed_twice(
    demo_folder: Path, digits: Images, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Memory runs out in the second attack; what the first found rests on how many images there were at a time."""
    monkeypatch.setattr("robusteval.auditing.stages.twice.TRIFLE", 100.0)
    (tmp_path / "sized.py").write_text(SIZED)
    entry = '[[attacks]]\nmethod = "sized.py:Sized"\nnorm = "linf"\n'
    (tmp_path / "p.toml").write_text(f"[budgets]\nlinf = [0.9]\n{entry}{entry}name = 'hungry'\nmost = 3\n")
    run = audited(demo_folder, digits.first(12), read_protocol(str(tmp_path / "p.toml")), tmp_path / "run")
    assert [s.status for s in run.manifest.stages] == ["done"] * 5
    assert differing(run).empty
    assert not flagged(run)


def test_only_the_time_of_the_second_computation_is_booked(demo_folder: Path, digits: Images, tmp_path: Path) -> None:
    run = audited(demo_folder, digits.first(12), parse_protocol(SMALL, "p.toml"), tmp_path / "run")
    assert run.manifest.stage(REPEAT).cost.forwards == 12.0
    assert run.manifest.stage(REPEAT).cost.backwards == 0.0


def test_changes_by_image() -> None:
    first = pd.DataFrame(
        {
            "image_id": ["a", "a", "b", "c", "d", "e"],
            "norm": ["l2"] * 6,
            "success": [True, True, True, True, False, True],
            "l2": [1.0, 2.0, 1e-9, np.inf, np.nan, np.inf],
            "forwards": [1.0] * 6,
        }
    )
    again = first.assign(l2=[1.0, 1.5, 0.0, np.inf, np.nan, 3.0], forwards=2.0)
    found = changes(first, again)
    expected = {"a": 0.25, "b": 1e-6, "c": 0.0, "d": 0.0, "e": 1.0}
    assert found.to_dict() == pytest.approx(expected, abs=1e-12)
    assert changes(first, again.assign(success=False))[["a", "d"]].tolist() == [1.0, 0.0]
    assert changes(first, again[1:]).tolist() == [1.0] * 5
