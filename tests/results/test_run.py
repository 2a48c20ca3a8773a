"""The run directory read back: another format of the manifest is refused, a table is read once and the caller's own."""

from __future__ import annotations

import json
import re
from pathlib import Path

import jsonschema
import pandas as pd
import pydantic
import pytest
from typer.testing import CliRunner

from robusteval.cli.app import app
from robusteval.core.errors import UserError
from robusteval.results import files
from robusteval.results import run as run_directory
from robusteval.results.files import write_frame
from robusteval.results.manifest import FORMAT, NAME, Manifest
from robusteval.results.run import Run
from run_fixture import build_run


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return build_run(tmp_path / "run")


@pytest.mark.parametrize(
    ("manifest", "words"),
    [
        ({"robusteval": "0.0.9", "stages": []}, "of robusteval 0.0.9 (format none)"),
        ({"robusteval": "0.0.9", "format": FORMAT + 1}, f"of robusteval 0.0.9 (format {FORMAT + 1})"),
        ([], "of robusteval unknown (format none)"),
    ],
)
@pytest.mark.parametrize("command", ["report", "verify", "leaderboard"])
def test_a_manifest_of_another_format_is_refused_in_one_line(
    run: Run, command: str, manifest: object, words: str
) -> None:
    (run.path / NAME).write_text(json.dumps(manifest))
    done = CliRunner().invoke(app, [command, str(run.path)])
    assert done.exit_code == 2, done.stderr
    (line,) = done.stderr.strip().splitlines()
    assert line.startswith("error: expected a run of robusteval ")
    assert f"(manifest format {FORMAT}), got {run.path} {words}; audit the model again" in line


def test_a_table_is_read_once_until_its_file_changes(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    reads: list[Path] = []
    read = files.read_frame

    def counted(path: Path) -> pd.DataFrame:
        reads.append(path)
        return read(path)

    monkeypatch.setattr(run_directory, "read_frame", counted)
    table = run.table("images")
    pd.testing.assert_frame_equal(Run.open(run.path).table("images"), table)
    assert len(reads) == 1
    write_frame(run.path / "tables" / "images.parquet", table.assign(correct=~table["correct"]))
    assert (run.table("images")["correct"] != table["correct"]).all()


def test_a_table_belongs_to_who_asked_for_it(run: Run) -> None:
    table = run.table("certificates")
    table.loc[:, "radius"] = -1.0
    table["more"] = 0
    again = run.table("certificates")
    assert (again["radius"] >= 0).all()
    assert "more" not in again


SCHEMA = Path(__file__).parents[2] / "docs" / "manifest.schema.json"


def test_the_schema_in_the_docs_is_that_of_the_manifest(run: Run) -> None:
    """Made by: python -m robusteval.results.manifest > docs/manifest.schema.json, with the pydantic of constraints.txt:
    others write the same in other words."""
    schema = json.loads(SCHEMA.read_text(encoding="utf-8"))
    if f"pydantic=={pydantic.VERSION}\n" in (SCHEMA.parents[1] / "constraints.txt").read_text(encoding="utf-8"):
        assert schema == Manifest.model_json_schema(mode="serialization")
    jsonschema.validate(json.loads((run.path / NAME).read_text()), schema)


def test_a_manifest_survives_being_written(run: Run) -> None:
    assert Run.open(run.path).manifest == run.manifest


@pytest.mark.parametrize(
    ("damage", "word"),
    [
        ({"seed": "one"}, "seed"),
        ({"surprise": 1}, "surprise"),
        ({"stages": [{"kind": "attack", "name": "x"}]}, "stages.0.attack.title"),
    ],
)
def test_a_damaged_manifest_is_one_line_that_names_the_field(run: Run, damage: dict[str, object], word: str) -> None:
    manifest = json.loads((run.path / NAME).read_text())
    (run.path / NAME).write_text(json.dumps(manifest | damage))
    with pytest.raises(UserError, match=re.escape(word)) as caught:
        Run.open(run.path)
    assert "\n" not in str(caught.value)
