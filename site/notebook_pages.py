"""A hook of mkdocs: each executed notebook as a page, from what is in the file; nothing is run and nothing loaded."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

_STYLE = re.compile(r"<style.*?</style>| border=\"1\"| class=\"dataframe\"| style=\"text-align: right;\"", re.DOTALL)
"""Of a table of pandas: the theme has its own."""
_LINK = re.compile(r"\]\(([\w./-]+)\.ipynb\)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    for file in [f for f in files if f.src_uri.endswith(".ipynb")]:
        notebook = json.loads(Path(str(file.abs_src_path)).read_text(encoding="utf-8"))
        stem = file.src_uri.removesuffix(".ipynb")
        text, pictures = page(notebook, Path(stem).name)
        files.append(File.generated(config, f"{stem}.md", content=text))
        for name, content in pictures.items():
            files.append(File.generated(config, f"{Path(stem).parent.as_posix()}/{name}", content=content))
    return files


def on_page_markdown(markdown: str, *, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Where the repository's reader opens a notebook, the site's gets its page."""
    return _LINK.sub(r"](\1.md)", markdown)


def page(notebook: dict[str, Any], stem: str) -> tuple[str, dict[str, bytes]]:
    """A notebook as Markdown, and its pictures by file name."""
    parts: list[str] = []
    pictures: dict[str, bytes] = {}
    for cell in notebook["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            parts.append(source)
            continue
        parts.append(f"```python\n{source}\n```")
        for kind, content in outputs(cell):
            if kind == "image/png":
                name = f"{stem}-{len(pictures) + 1}.png"
                pictures[name] = base64.b64decode(content)
                parts.append(f"![What the cell above draws]({name})")
            else:
                parts.append(content if kind == "text/html" else f"```text\n{content.rstrip()}\n```")
    return "\n\n".join(parts), pictures


def outputs(cell: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """What a cell shows: the richest kind of each output."""
    for output in cell["outputs"]:
        data = output.get("data", {"text/plain": output.get("text", "")})
        kind = next(k for k in ("image/png", "text/html", "text/plain") if k in data)
        content = "".join(data[kind])
        # A blank line would end the HTML for Markdown.
        yield kind, re.sub(r"\n\s*\n", "\n", _STYLE.sub("", content)).strip() if kind == "text/html" else content
