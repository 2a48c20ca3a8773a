"""How an error ends a stage: as unavailable, as failed, or together with the audit; here or in another process."""

from __future__ import annotations

import traceback
from dataclasses import dataclass
from pathlib import Path

from robusteval.core.errors import RefutedError, UnsupportedError, UserError, first_line
from robusteval.core.images import Images
from robusteval.core.memory import is_out_of_memory
from robusteval.models.classifier import Classifier
from robusteval.results.atomic import atomically


@dataclass(frozen=True)
class Failure:
    """What is kept of an error that stopped a stage: why, in a line, and the traceback."""

    reason: str
    text: str


class ElsewhereError(Exception):
    """An error of another process, of which there is only what is kept: its class may be unknown here."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure)
        self.failure = failure

    def __str__(self) -> str:
        return self.failure.reason


def ended_by(error: Exception, kept: Path) -> dict[str, str]:
    """The status and reason of a stage that an error stopped; the traceback of one that failed is kept. Raises what
    ends the audit: a mistake of the user, a refuted proof, a run that cannot be written."""
    short = is_out_of_memory(error)
    if isinstance(error, UnsupportedError) and not short:
        return {"status": "unavailable", "reason": str(error)}
    if isinstance(error, UserError | RefutedError) and not short:
        raise error
    failure = failure_of(error)
    atomically(kept, lambda temporary: temporary.write_text(failure.text, encoding="utf-8", newline="\n"))
    return {"status": "failed", "reason": failure.reason}


def failure_of(error: Exception) -> Failure:
    """What is kept of an error."""
    if isinstance(error, ElsewhereError):
        return error.failure
    text = "".join(traceback.format_exception(error))
    if is_out_of_memory(error):
        return Failure(f"expected enough memory, got none left: {first_line(error)}", text)
    place = traceback.extract_tb(error.__traceback__)[-1]
    said = f"{type(error).__name__}: {first_line(error)} ({Path(place.filename).name}, line {place.lineno})"
    return Failure(said, text)


def portable(error: Exception) -> Exception:
    """The error as another process can have it, which tells it to its user as this one would."""
    if not is_out_of_memory(error):
        for kind in (UnsupportedError, UserError, RefutedError):
            if isinstance(error, kind):
                return kind(str(error))
    return ElsewhereError(failure_of(error))


def left_unanswered(model: Classifier, images: Images, reason: str) -> str:
    """The line for a model that does not answer to the images themselves: the first one of them, if it is one."""
    for image in images.blocks(1):
        try:
            model.predict(image.pixels)
        except Exception as error:
            return f"expected an answer of {model.name} to every image, got on {image.ids[0]}: {first_line(error)}"
    return f"expected an answer of {model.name} to every image, got: {reason}"
