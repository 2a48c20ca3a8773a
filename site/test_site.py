"""The built site, build/site: nothing of it is loaded from elsewhere, and it works from a folder, search too."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

SITE = Path(__file__).parents[1] / "build" / "site"
PAGES = sorted(SITE.rglob("*.html"))
LOADED = {"script": "src", "img": "src", "iframe": "src", "source": "src", "link": "href", "object": "data"}
"""What a browser fetches by itself, by the attribute that says from where."""


class Fetched(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        named = dict(attributes)
        if tag in LOADED and named.get("rel") not in ("canonical", "prev", "next"):
            self.found.append(named.get(LOADED[tag]) or "")


def test_it_is_built() -> None:
    names = {path.relative_to(SITE).as_posix() for path in PAGES}
    assert {"index.html", "tutorials/own-model.html", "reference/front.html", "notebooks/first-look.html"} <= names


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.relative_to(SITE).as_posix())
def test_a_page_fetches_nothing_from_elsewhere(path: Path) -> None:
    reader = Fetched()
    reader.feed(path.read_text(encoding="utf-8"))
    assert reader.found
    assert not [address for address in reader.found if re.match(r"(https?:)?//", address)]


def test_no_style_fetches_from_elsewhere() -> None:
    styles = list(SITE.rglob("*.css"))
    assert styles
    for path in styles:
        assert not re.search(r"(url\(|@import)\s*['\"]?(https?:)?//", path.read_text(encoding="utf-8")), path


@pytest.mark.parametrize(
    ("page", "holds"),
    [
        ("reference/attacks.html", ["pgd", "restarts", "search_dtype"]),
        ("reference/defenses.html", ["trades"]),
        ("reference/front.html", ["open_checkpoint", "accuracy_curve"]),
        ("notebooks/first-look.html", ["first-look-1.png", "proof_linf"]),
    ],
)
def test_what_pages_hold(page: str, holds: list[str]) -> None:
    text = (SITE / page).read_text(encoding="utf-8")
    assert [word for word in holds if word not in text] == []


def test_it_works_from_a_folder_without_a_network(browser: Any) -> None:
    """In a browser that gets files only: the start page, and a search that finds a method."""
    asked: list[str] = []
    context = browser.new_context(viewport={"width": 1280, "height": 800})

    def only_files(route: Any) -> None:
        asked.append(route.request.url)
        route.abort() if route.request.url.startswith("http") else route.continue_()

    context.route("**/*", only_files)
    tab = context.new_page()
    tab.goto(SITE.joinpath("index.html").as_uri())
    tab.keyboard.press("f")
    tab.keyboard.type("randomized smoothing")
    tab.wait_for_selector(".md-search-result__item", timeout=20000)
    assert not [address for address in asked if address.startswith("http")]
    # A figure or a table wider than a phone scrolls in itself.
    tab.set_viewport_size({"width": 360, "height": 740})
    for page in ("index.html", "metrics.html", "reference/attacks.html", "notebooks/first-look.html"):
        tab.goto(SITE.joinpath(page).as_uri())
        assert tab.evaluate("document.documentElement.scrollWidth") <= 361, page
    context.close()
