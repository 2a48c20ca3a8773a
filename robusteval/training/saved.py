"""An unfinished training on disk: all that its next epoch depends on."""

from __future__ import annotations

import glob
import os
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from robusteval.core.errors import UserError
from robusteval.core.limits import FILE_BYTES, check_file
from robusteval.results.atomic import atomically


@dataclass(frozen=True)
class SavedTraining:
    """The file that a training writes after each epoch and continues from. `key` says which training it is of."""

    path: Path
    key: str

    def read(self) -> dict[str, Any] | None:
        """What was saved last; None where nothing was. Raises UserError where it is of another training."""
        if not os.path.lexists(self.path):
            return None
        check_file(self.path, FILE_BYTES, "an unfinished training")
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                content: dict[str, Any] = torch.load(self.path, map_location="cpu", weights_only=True)
            key = content["key"]
        except Exception as error:  # torch raises all kinds for a file that is not its own
            raise UserError(
                f"expected an unfinished training in {self.path}, got something else; remove it to begin anew"
            ) from error
        if key != self.key:
            raise UserError(
                f"expected the command that left {self.path}, got other settings, data or another network; "
                "remove it to begin anew"
            )
        return content

    def write(self, content: dict[str, Any]) -> None:
        """Whole or not at all."""
        atomically(self.path, lambda temporary: torch.save({"key": self.key, **content}, temporary))

    def remove(self) -> None:
        """The file, and what a kill in the midst of writing it left."""
        for left in self.path.parent.glob(f"{glob.escape(self.path.name)}.*.tmp"):
            left.unlink(missing_ok=True)
        self.path.unlink(missing_ok=True)
