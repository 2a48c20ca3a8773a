"""Figures of a report: what they load, their axes, and what they name."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from pathlib import Path

from robusteval.analysis.headline import headline_of
from robusteval.analysis.intervals import proportion
from robusteval.reports import summarise, write_report
from robusteval.results.files import write_frame
from robusteval.results.run import Run
from run_fixture import N, build_run


def test_reading_reports_needs_no_torch_and_no_plotting_library() -> None:
    probe = (
        "import sys, robusteval.reports, robusteval.reports.formats.html, robusteval.reports.formats.markdown, "
        "robusteval.reports.formats.terminal; print([m for m in ('torch', 'matplotlib') if m in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True).stdout.strip() == "[]"


def test_drawing_needs_no_torch_and_leaves_matplotlib_as_it_was(run: Run) -> None:
    probe = (
        "import sys, matplotlib; before = matplotlib.rcParams.copy()\n"
        "from robusteval.results.run import Run; from robusteval.reports import write_report\n"
        f"write_report(Run.open({str(run.path)!r}))\n"
        "assert matplotlib.rcParams.copy() == before\n"
        "print([m for m in ('torch', 'matplotlib.pyplot') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr


def test_axes_of_wide_ranges_have_plain_numbers(tmp_path: Path) -> None:
    """The text of figures is never read as mathematics, so powers must come as numbers."""
    run = build_run(tmp_path)
    bounds = run.bounds().assign(**{"lower_l-bound-l2": [1e-5, 2e-5, 1e-4, 1e-3, 1e-2, 0.1, 0.2, 0.0]})
    write_frame(tmp_path / "tables" / "bounds.parquet", bounds)
    write_report(run)
    for figure in (tmp_path / "figures").glob("*.svg"):
        assert "mathdefault" not in figure.read_text(), figure.name


def test_what_covers_no_image_is_named_once(run: Run) -> None:
    summary = summarise(run)
    (bound, smoothed) = summary.certified
    none = proportion([False] * N)
    further = dataclasses.replace(bound, budget=1.0, share=none)
    nothing = [dataclasses.replace(smoothed, budget=b, share=none) for b in (0.5, 1.0)]
    lines = headline_of(dataclasses.replace(summary, certified=(bound, further, *nothing)))
    shown = [(x.quantity, x.at) for x in lines if "accuracy" in x.quantity][4:]
    assert shown == [
        (
            "Certified accuracy of the model smoothed with noise 0.25, Randomized smoothing (confidence, alpha 0.001)",
            "L2 0.5",
        ),
        ("Estimated accuracy, L-bound", "L2 0.5"),
    ]
