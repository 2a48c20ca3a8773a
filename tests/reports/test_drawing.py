"""How figures are saved: one layout for both formats, each drawn once."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from robusteval.core import forked
from robusteval.reports import write_report
from robusteval.reports.figures.drawing import Plot, legend, save
from robusteval.results.run import Run

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def test_a_figure_is_laid_out_once_and_drawn_once_for_each_format(tmp_path: Path) -> None:
    drawn: list[tuple[float, ...]] = []

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        axes.plot([0, 1], [0, 1000], label="a line")
        axes.set(title="title", xlabel="along", ylabel="up")
        legend(figure, axes)
        figure.canvas.mpl_connect("draw_event", lambda _: drawn.append(axes.get_position().bounds))

    data = pd.DataFrame({"x": [0, 1], "y": [0, 1000]})
    svg = save(Plot("line", "", "", data, draw, height=3.0, width=5.0), tmp_path)
    assert len(drawn) == 2
    assert drawn[0] == drawn[1]
    assert not np.allclose(drawn[0], (0.125, 0.11, 0.775, 0.77)), "where matplotlib puts axes without a layout"
    assert 'width="360pt" height="216pt"' in svg
    with Image.open(tmp_path / "line.png") as image:
        assert image.size == (800, 480)
        assert np.allclose(image.info["dpi"], 160, atol=0.1)
        pixels = np.asarray(image.convert("RGB"))
    assert (pixels[0] == 255).all()
    assert (pixels < 128).all(axis=2).any()
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "line.csv"), data)
    assert "<text" not in svg


def test_the_same_is_drawn_on_however_many_cores(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def written(cores: int) -> dict[str, bytes]:
        monkeypatch.setattr(forked, "_cores", lambda: cores)
        folder = tmp_path / str(cores)
        write_report(run, into=folder)
        return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}

    alone = written(1)
    assert sum(name.endswith(".svg") for name in alone) > 3
    assert written(3) == alone
