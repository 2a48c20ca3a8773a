"""The errors that a user reads: what pydantic found, in one line."""

from __future__ import annotations

from typing import Annotated, Any

import pytest
from pydantic import AfterValidator, BaseModel, ConfigDict, PositiveInt, ValidationError

from robusteval.core.errors import LONGEST, UnsupportedError, UserError, explain
from robusteval.results.atomic import NotWrittenError


def even(value: int) -> int:
    if value % 2:
        raise ValueError("expected an even number")
    return value


class Settings(BaseModel):
    model_config = ConfigDict(extra="forbid")

    batch_size: PositiveInt
    pairs: Annotated[int, AfterValidator(even)] = 2
    word: str = ""


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        ({"batch_size": 0}, "expected a value greater than 0, got 0 for 'batch_size'"),
        ({"batch_size": "x"}, "expected a valid integer, got 'x' for 'batch_size'"),
        ({"batch_size": 2.5}, "expected a valid integer, got 2.5 for 'batch_size'"),
        ({"batch_size": 1, "pairs": 3}, "expected an even number, got 3 for 'pairs'"),
        ({}, "expected 'batch_size', got none"),
        ({"batch_size": 1, "bach_size": 2}, "expected a known setting, got 'bach_size' (did you mean 'batch_size'?)"),
    ],
    ids=["range", "word", "fraction", "own rule", "missing", "unknown"],
)
def test_the_first_problem_is_one_line(settings: dict[str, Any], line: str) -> None:
    with pytest.raises(ValidationError) as caught:
        Settings(**settings)
    assert explain(caught.value, Settings.model_fields) == line


def test_a_setting_is_written_as_its_option() -> None:
    with pytest.raises(ValidationError) as caught:
        Settings(batch_size=0)
    text = explain(caught.value, called=lambda setting: f"--{setting.replace('_', '-')}")
    assert text == "expected a value greater than 0, got 0 for --batch-size"


def test_a_long_value_is_cut() -> None:
    with pytest.raises(ValidationError) as caught:
        Settings.model_validate({"batch_size": 1, "word": list(range(1000))})
    assert explain(caught.value).startswith("expected a valid string, got [0, 1, 2,")
    assert len(explain(caught.value)) < LONGEST + 60


def test_what_is_no_setting_is_not_named() -> None:
    with pytest.raises(ValidationError) as caught:
        Settings.model_validate_json("not json")
    assert explain(caught.value).startswith("Invalid JSON: ")
    assert "for ''" not in explain(caught.value)


def test_what_is_no_object_is_quoted() -> None:
    with pytest.raises(ValidationError) as caught:
        Settings.model_validate_json("[1, 2]")
    assert explain(caught.value) == "expected an object, got [1, 2]"


@pytest.mark.parametrize("kind", [UserError, UnsupportedError, NotWrittenError])
def test_an_error_is_one_line_of_readable_text(kind: type[UserError]) -> None:
    """Whoever shows it: names of files and messages of libraries stand in it."""
    assert (
        str(kind("got a\x1b]0;x\x07\u202eb.npy\nand\x9b more\udcff"))
        == "got a\ufffd]0;x\ufffd\ufffdb.npy and\ufffd more\ufffd"
    )
