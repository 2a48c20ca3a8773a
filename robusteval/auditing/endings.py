"""How an error ends a stage: as unavailable, as failed, or together with the audit."""

from __future__ import annotations

import traceback
from pathlib import Path

from robusteval.core.errors import RefutedError, UnsupportedError, UserError, first_line
from robusteval.core.memory import is_out_of_memory
from robusteval.results.atomic import atomically


def ended_by(error: Exception, kept: Path) -> dict[str, str]:
    """The status and reason of a stage that an error stopped; the traceback of one that failed is kept. Raises what
    ends the audit: a mistake of the user, a refuted proof, a run that cannot be written."""
    short = is_out_of_memory(error)
    if isinstance(error, UnsupportedError) and not short:
        return {"status": "unavailable", "reason": str(error)}
    if isinstance(error, UserError | RefutedError) and not short:
        raise error
    text = "".join(traceback.format_exception(error))
    atomically(kept, lambda temporary: temporary.write_text(text, encoding="utf-8", newline="\n"))
    if short:
        return {"status": "failed", "reason": f"expected enough memory, got none left: {first_line(error)}"}
    place = traceback.extract_tb(error.__traceback__)[-1]
    said = f"{type(error).__name__}: {first_line(error)} ({Path(place.filename).name}, line {place.lineno})"
    return {"status": "failed", "reason": said}
