"""Tables for a paper: what LaTeX reads is what the grid says."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from robusteval.reports.formats.latex import escaped, table
from robusteval.reports.grid import Grid

GRID = Grid("Table 1, 50 % & more", ["Model", "Linf 8/255", "95 % interval"], [["a_b#1", "82.0 %", "-"]], note="$x$")


def test_a_table_by_hand() -> None:
    text = table(GRID)
    assert r"\caption{Table 1, 50 \% \& more}" in text
    assert r"\begin{tabular}{@{}lrr@{}}" in text
    assert r"Model & Linf 8/255 & 95 \% interval \\" in text
    assert r"a\_b\#1 & 82.0 \% & - \\" in text
    assert r"\$x\$" in text
    assert [text.count(rule) for rule in (r"\toprule", r"\midrule", r"\bottomrule")] == [1, 1, 1]


@given(st.text())
def test_no_text_is_a_command(text: str) -> None:
    """Once the escapes are taken out, no special character is left."""
    rest = re.sub(r"\\(?:text(?:backslash|asciitilde|asciicircum|less|greater|bar)\{\}|[{}$&%#_])", "", escaped(text))
    assert not re.search(r"[\\{}$&%#_~^]", rest)
    assert "\n" not in rest
