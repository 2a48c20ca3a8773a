"""A hook of mkdocs: the one script that the theme would load from elsewhere comes from here."""

from __future__ import annotations

from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page
from mkdocs.utils import get_relative_url

THEIRS = "https://unpkg.com/iframe-worker/shim"
OURS = "assets/worker.js"


def on_files(files: Files, config: MkDocsConfig) -> Files:
    script = Path(__file__).with_name("worker.js").read_text(encoding="utf-8")
    files.append(File.generated(config, OURS, content=script))
    return files


def on_post_page(output: str, *, page: Page, config: MkDocsConfig) -> str:
    return output.replace(THEIRS, get_relative_url(OURS, page.url))


def on_post_template(output: str, *, template_name: str, config: MkDocsConfig) -> str:
    return output.replace(THEIRS, f"/{OURS}") if template_name == "404.html" else output
