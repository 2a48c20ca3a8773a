"""Packages that the core does without: imported when a model needs them; what to install where they are missing."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from robusteval.core.errors import UserError, first_line


def imported(module: str, extra: str, purpose: str) -> Any:
    """A module of a package of the extra `extra`. Raises UserError with the command that installs it."""
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        missing = (error.name or module).partition(".")[0]
        raise UserError(
            f"expected the package {missing} {purpose}, got none: pip install 'robusteval[{extra}]'"
        ) from None
    except Exception as error:  # packages that do not fit each other, such as torch and torchvision, raise all kinds
        raise UserError(
            f"expected the package {module.partition('.')[0]} {purpose}, got an error when it is imported: "
            f"{first_line(error)}; pip install --force-reinstall 'robusteval[{extra}]'"
        ) from error
