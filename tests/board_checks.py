"""What a page has to be for everyone: readable, on a phone and on paper."""

from __future__ import annotations

from typing import Any

_CONTRAST = """() => {
  const canvas = Object.assign(document.createElement('canvas'), { width: 1, height: 1 });
  const one = canvas.getContext('2d', { willReadFrequently: true });
  const rgba = (colour) => { one.clearRect(0, 0, 1, 1); one.fillStyle = colour; one.fillRect(0, 0, 1, 1);
    return [...one.getImageData(0, 0, 1, 1).data]; };
  const linear = (v) => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
  const light = (rgb) => rgb.map((v) => linear(v / 255))
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const behind = (element) => {
    for (let e = element; e; e = e.parentElement) {
      const [r, g, b, a] = rgba(getComputedStyle(e).backgroundColor);
      if (a === 255) return [r, g, b];
    }
    return [255, 255, 255];
  };
  const found = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let node = walker.nextNode(); node; node = walker.nextNode()) {
    const element = node.parentElement;
    if (!node.textContent.trim() || !element.checkVisibility()) continue;
    if (element.closest('script, style, .unseen, [aria-disabled=true]')) continue;
    const both = [rgba(getComputedStyle(element).color).slice(0, 3), behind(element)];
    const [a, b] = both.map(light).sort((x, y) => y - x);
    const ratio = (a + 0.05) / (b + 0.05);
    if (ratio < 4.5) found.push(`${ratio.toFixed(2)}: ${node.textContent.trim().slice(0, 40)}`);
  }
  return found; }"""
_CUT = """() => [...document.querySelectorAll('table, img, svg, pre, dl')].filter((e) => e.checkVisibility())
  .filter((e) => e.getBoundingClientRect().right > document.documentElement.clientWidth + 1)
  .filter((e) => !e.parentElement.closest('[tabindex="0"], .dt-scroll, .scroll'))
  .map((e) => e.outerHTML.slice(0, 60))"""


def faint_texts(tab: Any) -> list[str]:
    """The visible texts with a contrast below 4.5 : 1 against what lies behind them (WCAG 2.2, criterion 1.4.3)."""
    found: list[str] = tab.evaluate(_CONTRAST)
    return found


def cut_parts(tab: Any) -> list[str]:
    """What reaches beyond the right edge and cannot be scrolled to; and the page, where it scrolls sideways."""
    found: list[str] = tab.evaluate(_CUT)
    wide = tab.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    return [*found, *([f"the page, by {wide} pixels"] if wide > 0 else [])]
