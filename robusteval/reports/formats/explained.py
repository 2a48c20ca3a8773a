"""What the words of a page mean, on hover, by keyboard and to screen readers."""

from __future__ import annotations

import re

from markupsafe import Markup, escape

from robusteval.analysis import names

_NUMBER = r"[0-9]+(?:\.[0-9]+)?(?:e[+-]?[0-9]+)?"
_WORDS = re.compile(
    rf"{names.SMOOTHED} (?P<levels>{_NUMBER}(?:(?:, | or ){_NUMBER})*)|\balpha (?P<alpha>{_NUMBER})", re.IGNORECASE
)


def explained(text: str) -> Markup:
    """A text, escaped; smoothed models and alpha in it carry what they mean as the title of an abbreviation."""
    parts, at = [Markup()], 0
    for found in _WORDS.finditer(text):
        title = names.smoothed_formula(found["levels"]) if found["levels"] else names.alpha_meaning(found["alpha"])
        abbreviation = Markup('<abbr tabindex="0" title="{}">{}</abbr>').format(title, found[0])
        parts += [escape(text[at : found.start()]), abbreviation]
        at = found.end()
    return Markup("").join([*parts, escape(text[at:])])
