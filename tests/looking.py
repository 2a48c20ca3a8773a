"""What a page looks like in a browser: text too faint, text over text, what is cut off, what axe-core finds."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from matplotlib.colors import to_hex

from robusteval.reports.figures.drawing import Plot

LOOKS: dict[str, dict[str, Any]] = {
    "light": {"width": 1440},
    "dark": {"width": 1440, "color_scheme": "dark"},
    "laptop": {"width": 1024},
    "phone": {"width": 360},
    "dark phone": {"width": 360, "color_scheme": "dark"},
    "print": {"width": 680, "media": "print"},
}
"""The width of the window, and what its reader prefers; 680 is A4 between its margins."""

SEEN = """
const clipped = (rect, element) => {
  let { left, top, right, bottom } = rect;
  for (let at = element; at && at !== document.documentElement; at = at.parentElement) {
    const style = getComputedStyle(at), box = at.getBoundingClientRect();
    if (style.visibility === "hidden" || style.display === "none" || style.opacity === "0") return null;
    if (style.overflowX !== "visible") { left = Math.max(left, box.left); right = Math.min(right, box.right); }
    if (style.overflowY !== "visible") { top = Math.max(top, box.top); bottom = Math.min(bottom, box.bottom); }
  }
  return right - left > 1 && bottom - top > 1 ? { left, top, right, bottom } : null;
};
const texts = () => {
  const found = [], walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walk.nextNode()) {
    const node = walk.currentNode;
    if (!node.textContent.trim() || node.parentElement.closest("script, style, noscript, option")) continue;
    if (!node.parentElement.checkVisibility({ contentVisibilityAuto: true })) continue;
    const range = document.createRange();
    range.selectNodeContents(node);
    for (const rect of range.getClientRects()) {
      const seen = clipped(rect, node.parentElement);
      if (seen) found.push({ node, rect: seen, text: node.textContent.trim().slice(0, 40) });
    }
  }
  return found;
};
"""
FAINT = f"""() => {{ {SEEN}
const colour = (text) => {{
  const [r, g, b, a = 1] = text.match(/[\\d.]+/g).map(Number);
  return [r, g, b, a];
}};
const over = (a, b) => a.slice(0, 3).map((x, i) => a[3] * x + (1 - a[3]) * b[i]);
const light = (c) => {{
  const [r, g, b] = c.map((x) => x / 255).map((x) => (x <= 0.04045 ? x / 12.92 : ((x + 0.055) / 1.055) ** 2.4));
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
}};
const ground = (element) => {{
  const chain = [];
  for (let at = element; at; at = at.parentElement) chain.push(colour(getComputedStyle(at).backgroundColor));
  return chain.reverse().reduce((below, c) => over(c, below), [255, 255, 255]);
}};
const found = new Map();
for (const {{ node, text }} of texts()) {{
  const back = ground(node.parentElement), ink = over(colour(getComputedStyle(node.parentElement).color), back);
  const [a, b] = [light(back), light(ink)], ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
  if (ratio < 4.5) found.set(`${{text}}: ${{ratio.toFixed(2)}}`, 1);
}}
return [...found.keys()];
}}"""
"""Texts whose contrast with what lies behind them is below 4.5 : 1."""
OVERLAPPING = f"""() => {{ {SEEN}
const all = texts().sort((a, b) => a.rect.top - b.rect.top), found = [];
for (let i = 0; i < all.length; i++) {{
  for (let j = i + 1; j < all.length && all[j].rect.top < all[i].rect.bottom - 4; j++) {{
    const [a, b] = [all[i].rect, all[j].rect];
    const wide = Math.min(a.right, b.right) - Math.max(a.left, b.left);
    const high = Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top);
    if (wide > 2 && high > 4) found.push(`${{all[i].text}} / ${{all[j].text}}`);
  }}
}}
return found;
}}"""
"""Texts that lie over other texts."""
CUT = """() => {
const found = [], width = document.documentElement.clientWidth;
for (const one of document.querySelectorAll("figure img, .bar")) {
  const box = one.getBoundingClientRect(), name = one.alt || one.className;
  if (!box.width) continue;
  if (box.left < 0 || box.right > width + 0.5) found.push(`${name}: ${box.left} to ${box.right} of ${width}`);
  for (let at = one.parentElement; at && at !== document.body; at = at.parentElement) {
    const scrolls = getComputedStyle(at).overflowX !== "visible" && at.scrollWidth > at.clientWidth + 1;
    if (scrolls) found.push(`${name} is scrolled`);
  }
}
for (const one of document.querySelectorAll("table, pre, dl")) {
  const right = one.getBoundingClientRect().right, scrolls = one.closest('[tabindex="0"], .dt-scroll, .scroll');
  if (one.checkVisibility() && right > width + 1 && !scrolls) found.push(`${one.outerHTML.slice(0, 60)}: ${right}`);
}
for (const one of document.querySelectorAll(".bar span")) {
  if (one.scrollWidth > one.clientWidth + 1) found.push(`the number ${one.textContent}`);
}
return found;
}"""
"""Figures, bars and their numbers of which a part is outside of the page or of what can be seen without scrolling, and
tables that reach beyond the page and cannot be scrolled."""


@dataclass(frozen=True)
class Look:
    """A page in one window: what is wrong with it, and how wide it is."""

    faint: list[str]
    overlapping: list[str]
    cut: list[str]
    wider_by: int
    """Pixels that the page can be scrolled sideways."""


def opened(browser: Any, path: Path, look: str) -> Any:
    """The page in a window of LOOKS."""
    window = LOOKS[look]
    tab = browser.new_page(
        viewport={"width": window["width"], "height": 900}, color_scheme=window.get("color_scheme", "light")
    )
    tab.emulate_media(media=window.get("media", "screen"), color_scheme=window.get("color_scheme", "light"))
    tab.goto(path.as_uri())
    tab.wait_for_selector("html[data-ready]", timeout=20_000)
    return tab


def looked_at(tab: Any) -> Look:
    """What is wrong with an open page, once it is drawn: after a change of media some styles are those before it."""
    tab.evaluate("new Promise((drawn) => requestAnimationFrame(() => requestAnimationFrame(drawn)))")
    wider = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
    return Look(tab.evaluate(FAINT), tab.evaluate(OVERLAPPING), tab.evaluate(CUT), tab.evaluate(wider))


def alike(plot: Plot) -> list[tuple[str, str]]:
    """Pairs of named curves in one panel of a figure that have the same colour and the same dashes."""
    from matplotlib.figure import Figure

    figure, found = Figure(), []
    plot.draw(figure)
    for axes in figure.axes:
        seen: dict[Any, str] = {}
        for line in axes.lines:
            name = str(line.get_label())
            if name.startswith("_") or line.get_linestyle() == "None":
                continue
            dashes: object = vars(line)["_dash_pattern"]
            look = (to_hex(line.get_color()), str(dashes))
            if look in seen:
                found.append((seen[look], name))
            seen[look] = name
    return found


def axe_findings(tab: Any) -> list[str]:
    """The serious and critical faults that axe-core finds in an open page: the rule, and the first elements.

    Skips the test where axe-core is not installed: `make test` fetches it (tests/axe.txt).
    """
    package = find_spec("axe_playwright_python")
    if package is None or package.origin is None:
        pytest.skip("axe-core is not installed: pip install --require-hashes -r tests/axe.txt")
    tab.evaluate(Path(package.origin).with_name("axe.min.js").read_text(encoding="utf-8"))
    found = tab.evaluate("() => axe.run({ resultTypes: ['violations'] })")
    return [
        f"{v['id']} ({v['impact']}): {v['help']}: {[n['html'][:160] for n in v['nodes'][:4]]}"
        for v in found["violations"]
        if v["impact"] in ("serious", "critical")
    ]
