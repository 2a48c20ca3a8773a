"""A report of ten thousand images: each has its images, and only those looked at are drawn."""

from __future__ import annotations

import json
import re
from collections import Counter
from typing import Any

import numpy as np
import pytest
from forms import decoded

from robusteval.analysis import names, show
from robusteval.analysis.results import Results
from robusteval.reports import write_report
from robusteval.reports.formats import page
from robusteval.reports.sections import image_table
from robusteval.results.records import CLEAN
from robusteval.results.run import Run
from run_fixture import IDS, build_run
from visiting import Visit


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """10,000 images with their images."""
    run = build_run(tmp_path_factory.mktemp("large"), copies=1250, side=8, metrics=False)
    write_report(run)
    return run


def test_every_image_has_its_images(large: Run) -> None:
    text = (large.path / "report.html").read_text()
    arrays = json.loads(re.search(r'id="thumbnails">(.*?)</script>', text, re.DOTALL)[1])  # type: ignore[index]
    assert [sum(map(bool, row)) for row in arrays] == [3, 3, 3, 3, 3, 1, 1, 1] * 1250
    # Compressed with loss, and still the image.
    kept = large.arrays(CLEAN)["copy-9000"]
    assert np.abs(decoded(arrays[9008][0], "webp") / 255 - kept[0]).max() < 0.05


def test_cells_that_are_alike_are_made_once(large: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    said: Counter[str] = Counter()

    def counted(module: Any, name: str) -> None:
        own = getattr(module, name)
        monkeypatch.setattr(module, name, lambda *given: said.update([name]) or own(*given))

    counted(show, "fixed")
    counted(names, "bare")
    monkeypatch.setattr(image_table, "thumbnails", lambda results, norm, places: {})
    table = image_table.image_table(Results.of(large))
    assert len(table.rows) == 10_000
    # 8 images of which the others are copies, in 4 norms.
    assert 0 < said["fixed"] < 100
    assert 0 < said["bare"] < 100


def test_data_without_anything_to_replace_is_not_walked_through(large: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    data = image_table.image_table(Results.of(large)).as_json()
    walked = page._walked
    monkeypatch.setattr(page, "_walked", lambda value: pytest.fail("walked"))
    assert page._cleaned(data) is data
    monkeypatch.setattr(page, "_walked", walked)
    for name in ("a\x1bb", "a\rb", "a\x7fb", "a\u202eb", "a\ud800b"):
        assert page._cleaned({name: [1.5, (name, None)]}) == {"a\ufffdb": [1.5, ["a\ufffdb", None]]}
    assert page._cleaned(["a\tb\n", "c:\\b"]) == ["a\tb\n", "c:\\b"]


def test_of_ten_thousand_images_only_those_looked_at_are_drawn(large: Run, browser: Any) -> None:
    visit = Visit(browser, large.path / "report.html")
    # Rows and images are made as they are looked at: 15 + 1 of the first 25 images have a witness.
    assert visit.tab.evaluate("document.querySelectorAll('#images tbody tr').length") == 25
    assert visit.tab.locator("#images img").count() == 16 * 3 + 9
    visit.sort("Name")
    assert len(visit.settles("Name", IDS[-1])) == 25
    visit.tab.locator(".dt-paging button", has_text="400").click()
    last = sorted(large.bounds()["image_id"])[-25:]
    assert visit.settles("Name", last[0]) == last
    visit.tab.fill(".dt-search input", "copy-7777")
    assert visit.settles("Name", "copy-7777") == ["copy-7777"]
    visit.tab.wait_for_function("() => [...document.querySelectorAll('#images img')].every((i) => i.complete)")
    drawn = visit.tab.evaluate("[...document.querySelectorAll('#images img')].map((i) => i.naturalWidth)")
    assert drawn == [8, 8, 8]
    assert visit.said == []
