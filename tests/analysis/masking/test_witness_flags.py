"""Flags that follow from the witnesses: what attacks with and without gradients found on the same images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from masking_cases import FOUGHT, IDS, N, a_run, attack

from robusteval.analysis.masking import flags
from robusteval.core.methods import EnsembleStage
from robusteval.results.files import write_frame
from robusteval.results.tables import MEASUREMENTS_TABLE


@pytest.mark.parametrize("case", FOUGHT)
def test_flags_that_follow_from_the_witnesses(case: str, tmp_path: Path) -> None:
    expected, attacks = FOUGHT[case]
    entries = [entry for entry, _ in attacks]
    stages = np.where(np.arange(N) < {"square's part": 5, "square's rare part": 3}.get(case, 0), 4.0, 1.0)
    won = {"image_id": IDS, "method": entries[0].name, "quantity": "stage", "at": 0.1, "value": stages}
    run = a_run(tmp_path, tuple(IDS), True, MEASUREMENTS_TABLE.frame(won), entries)
    write_frame(tmp_path / "tables" / "witnesses.parquet", pd.concat([rows for _, rows in attacks]))
    run = run.updated(protocol=run.manifest.protocol.model_copy(update={"budgets": {}}))
    found = flags(run)
    assert [f.name for f in found] == ([expected] if expected else [])
    assert all("100 images" in f.evidence for f in found)


@pytest.mark.parametrize(
    ("follows", "flagged"),
    [
        (("gradients", "outputs"), True),
        (("gradients", "outputs", "outputs"), True),
        (("outputs", "gradients"), False),
        (("gradients", "outputs", "gradients"), False),
        (("outputs", "outputs"), False),
    ],
)
def test_any_ensemble_whose_last_stages_use_no_gradients_is_looked_at(
    follows: tuple[str, ...], flagged: bool, tmp_path: Path
) -> None:
    """Each stage without gradients broke images; it says something only if all stages with them had failed before."""
    stages = tuple(EnsembleStage(value=i + 10, title=f"stage {i}", follows=f) for i, f in enumerate(follows))
    entry, rows = attack("auto", {0.1: 50}, name="mine")
    entry = entry.model_copy(update={"method": "mine", "ensemble": stages})
    blind = [stage.value for stage in stages if stage.follows == "outputs"]
    broken_by = [float(blind[i % len(blind)]) if i < 10 else np.nan for i in range(N)]
    won = {"image_id": IDS, "method": "mine", "quantity": "stage", "at": 0.1, "value": broken_by}
    run = a_run(tmp_path, tuple(IDS), True, MEASUREMENTS_TABLE.frame(won), [entry])
    write_frame(tmp_path / "tables" / "witnesses.parquet", rows)
    assert [f.name for f in flags(run)] == (["square-finds-more"] if flagged else [])
