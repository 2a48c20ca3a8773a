"""A page open in a real browser."""

from __future__ import annotations

from pathlib import Path
from typing import Any

CHROMIUM = Path("/usr/bin/chromium")
COLUMN = """(title) => {
    const heads = [...document.querySelectorAll('.dt-scroll-head thead tr:last-child th')];
    const at = heads.findIndex((h) => h.textContent.trim() === title) + 1;
    return [...document.querySelectorAll(`#images tbody tr td:nth-child(${at})`)].map((c) => c.textContent);
}"""


class Visit:
    """A report open in the browser, with all it said and asked for."""

    def __init__(self, browser: Any, path: Path) -> None:
        self.tab = browser.new_page()
        self.said: list[str] = []
        self.asked: list[str] = []
        self.tab.on("console", lambda message: self.said.append(message.text))
        self.tab.on("pageerror", lambda error: self.said.append(str(error)))
        self.tab.on("dialog", self._refuse)
        self.tab.on("request", lambda request: self.asked.append(request.url))
        self.tab.goto(path.as_uri())
        self.tab.wait_for_selector("html[data-ready]", timeout=20_000)

    def _refuse(self, dialog: Any) -> None:
        self.said.append(f"dialog {dialog.message}")
        dialog.dismiss()

    def column(self, title: str) -> list[str]:
        """The shown cells below the first heading of that title."""
        cells: list[str] = self.tab.evaluate(COLUMN, title)
        return cells

    def settles(self, title: str, first: str) -> list[str]:
        """The same once its first cell is `first`: the table sorts and searches a moment after it is asked to."""
        self.tab.wait_for_function(f"([title, first]) => ({COLUMN})(title)[0] === first", arg=[title, first])
        return self.column(title)

    def sort(self, title: str) -> None:
        self.tab.locator(".dt-scroll-head thead tr:last-child th", has_text=title).first.click()
