"""A page of one file that needs nothing else and asks nothing of the network."""

from __future__ import annotations

import gzip
import hashlib
import json
import re
from base64 import b64encode
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from robusteval.core.foreign import readable
from robusteval.reports.formats.explained import explained
from robusteval.results.below import as_csv

if TYPE_CHECKING:
    import pandas as pd

_ESCAPED = re.compile(r"\\[bfru]")
"""What JSON writes for controls other than tab and line feed, and where a backslash stands before such a letter."""


def render(template: str, script: str, **values: object) -> str:
    """A template of reports/templates with a script of the same folder, which finds the table library loaded.

    Every value is escaped, and a content security policy lets the browser run only that script and the table library
    beside it, and load only what is embedded.
    """
    environment = Environment(
        loader=PackageLoader("robusteval.reports"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"embedded": _embedded, "gzipped": _gzipped, "cleaned": _cleaned, "quoted": _quoted}
    environment.filters["explained"] = explained
    text = _source("page.js") + _source(script)
    page = environment.get_template(template).render(
        style=Markup(_source("report.css")),
        script=Markup(text),
        script_hash=b64encode(hashlib.sha256(text.encode()).digest()).decode(),
        **_datatables(),
        **values,
    )
    return readable(page)


def _source(name: str) -> str:
    return (Path(__file__).parents[1] / "templates" / name).read_text(encoding="utf-8")


def _datatables() -> dict[str, Any]:
    """The table library that itables bundles for offline use: its module's text, and its style sheet."""
    import itables.options

    bundle = Path(itables.options.dt_bundle)
    return {
        "datatables": bundle.read_text(encoding="utf-8"),
        "datatables_style": Markup(bundle.with_suffix(".css").read_text(encoding="utf-8")),
    }


def _cleaned(data: Any) -> Any:
    """Data of a page as JSON would hold it, with every text in it readable. What has nothing to replace, which one look
    at all of it tells, is not walked through."""
    text = json.dumps(data, ensure_ascii=False)
    return data if readable(text) == text and not _ESCAPED.search(text) else _walked(data)


def _walked(value: Any) -> Any:
    if isinstance(value, str):
        return readable(value)
    if isinstance(value, dict):
        return {readable(str(key)): _walked(item) for key, item in value.items()}
    return [_walked(item) for item in value] if isinstance(value, list | tuple) else value


def _quoted(text: str) -> Markup:
    """Text as a string of CSS, of which every letter that is not plain is an escape."""
    plain = "".join(x if x.isascii() and x.isalnum() else f"\\{ord(x):06x}" for x in readable(text))
    return Markup(f'"{plain}"')


def _embedded(svg: str) -> str:
    return f"data:image/svg+xml;base64,{b64encode(svg.encode()).decode()}"


def _gzipped(data: pd.DataFrame) -> str:
    """A table as compressed CSV, the same bytes each time."""
    return b64encode(gzip.compress(as_csv(data).encode(), mtime=0)).decode()
