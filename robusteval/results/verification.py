"""Verification: what a verification of a run found, as verification.json; typed, frozen, with a JSON schema.
docs/verification.schema.json is made of it. Imports no torch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationError

from robusteval.core.errors import UserError, explain
from robusteval.core.limits import TEXT_BYTES, read_limited
from robusteval.results.records import Frozen


class Checked(Frozen):
    """So many values, and what they were held against, whether they hold or not."""

    what: str
    values: int = Field(ge=0)


class Verification(Frozen):
    format: Literal["robusteval verification 1"] = "robusteval verification 1"
    run: str
    """The name of the run's folder, not where it lies."""
    digest: str = Field(pattern="^[0-9a-f]{64}$")
    """Of the run's claims and evidence; its reports name the same."""
    model: str
    model_fingerprint: str
    data: str
    data_fingerprint: str
    seed: int
    versions: dict[str, str] = Field(default={})
    """Of what verified, not of what made the run."""
    device: str
    """That verified."""
    time: str
    """When it ended, ISO 8601 with a time zone."""
    seconds: float = Field(ge=0)
    checked: tuple[Checked, ...] = ()
    unchecked: tuple[str, ...] = ()
    """What was not checked, each with the reason."""
    images_without_evidence: int = Field(default=0, ge=0)
    """Images whose witnesses the run does not keep (--evidence)."""
    findings: tuple[str, ...] = ()
    """What does not hold."""

    @property
    def values(self) -> int:
        return sum(entry.values for entry in self.checked)

    @property
    def sentence(self) -> str:
        """What may be said after it, and no more."""
        held = f"{self.values:,} values were checked"
        wrong = len(self.findings)
        held += f"; {wrong:,} {'claim does' if wrong == 1 else 'claims do'} not hold" if wrong else " and hold"
        left = len(self.unchecked)
        kinds = "kind of claim was not checked, which is" if left == 1 else "kinds of claim were not checked, which are"
        bare = f" Of {self.images_without_evidence:,} images the run keeps no evidence." * bool(
            self.images_without_evidence
        )
        return f"{held}; {left:,} {kinds} listed.{bare}"

    def as_text(self) -> str:
        """verification.json."""
        return json.dumps(self.model_dump(mode="json"), indent=2, allow_nan=False) + "\n"


def read_verification(path: Path) -> Verification:
    """A verification.json. Raises UserError in one line."""
    try:
        return Verification.model_validate_json(read_limited(path, TEXT_BYTES, "a record of a verification"))
    except ValidationError as error:
        raise UserError(f"expected a verification in {path}, got another file: {explain(error)}") from error


if __name__ == "__main__":
    print(json.dumps(Verification.model_json_schema(mode="serialization"), indent=1))
