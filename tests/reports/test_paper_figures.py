"""The papers' figures that overlay models, from runs whose numbers are known by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from paper_tables import CORRECT, INF

from robusteval.reports.figures.drawing import save
from robusteval.reports.papers.gallery import paper_figures
from robusteval.reports.papers.write import write_paper_tables
from robusteval.results.files import write_arrays
from robusteval.results.run import Run, witness_key
from run_fixture import EVIL, Fake, build_paper_run

RANKS = (1.0, 2.0, 3.0)


def opnorm(path: Path, name: str, scale: float) -> Run:
    grid = (0.2, 0.5, 1.0)
    attacks = [Fake("pga-l2", "pgd", "l2", {"l2": [0.2 * scale, 0.5, INF, 0.0]}, grid)]
    rows = [("jacobian-spectrum", "singular_value", r, [scale * v / r for v in (4.0, 2.0, 3.0, 3.0)]) for r in RANKS]
    rows += [("alignment-pga-l2", q, r, [0.5 / r] * 4) for q in ("alignment", "alignment_twin") for r in RANKS]
    # Only one image has a value of rank 4: in the data, not drawn.
    rows.append(("alignment-pga-l2", "alignment", 4.0, [0.9, np.nan, np.nan, np.nan]))
    for way in ("random", "adversarial"):
        rows += [("linearity", f"deviation_{way}", d, [scale * d] * 4) for d in (0.0, 1.0)]
        rows += [("linearity", f"largest_singular_value_{way}", d, [scale] * 4) for d in (0.0, 1.0)]
    rows += [
        ("activation-patterns", q, e, [1 - e] * 4)
        for q in ("unchanged_at_data", "unchanged_at_noise")
        for e in (0.0, 0.1)
    ]
    return build_paper_run(path / name, "opnorm-2020", CORRECT, attacks, measurements=rows, name=name)


def test_opnorm_figures_have_every_model(tmp_path: Path) -> None:
    runs = [opnorm(tmp_path, "one", 1.0), opnorm(tmp_path, "two", 2.0)]
    plots = {plot.name.removeprefix("paper-opnorm-2020-"): plot for plot in paper_figures(runs, "opnorm-2020")}
    assert list(plots) == ["figure-2", "figure-3", "figure-4", "figure-5"]
    spectrum = plots["figure-2"].data
    first = spectrum[(spectrum["quantity"] == "singular_value") & (spectrum["at"] == 1)]
    assert first[["model", "mean", "images"]].to_numpy().tolist() == [["one", 3.0, 4], ["two", 6.0, 4]]
    deviations = plots["figure-4"].data
    gone = deviations[(deviations["quantity"] == "deviation_random") & (deviations["at"] == 1)]
    assert gone["mean"].tolist() == [1.0, 2.0]
    accuracy = plots["figure-3"].data
    kept = accuracy[accuracy["model"] == "two"]
    assert kept[["budget", "accuracy"]].to_numpy().tolist() == [[0.0, 0.75], [0.2, 0.75], [0.5, 0.25], [1.0, 0.25]]
    assert set(plots["figure-5"].data["panel"]) == {"At the images", "At uniform noise"}
    for plot in plots.values():
        svg = save(plot, tmp_path / "figures")
        assert "mathdefault" not in svg
        assert (tmp_path / "figures" / f"{plot.name}.png").stat().st_size > 5_000


def smooth(path: Path, name: str, confidences: list[float]) -> Run:
    far = {"linf": [0.04, 0.2, INF, 0.0], "l2": [0.5, 1.0, INF, 0.0], "l0": [3.0, 8.0, INF, 0.0]}
    attacks = [Fake("fgsm", "fgsm", "linf", far), Fake("pgd", "pgd", "linf", far)]
    seen = [*confidences, np.nan, np.nan]
    rows = [("deception-fgsm", "deceptive_confidence", 0.0, seen)]
    rows.append(("deception-fgsm", "deceptive_class", 0.0, [1.0 if c == c else np.nan for c in seen]))
    settings = {"deception-fgsm": {"witnesses": "fgsm"}}
    statistics = [("activation-maximization", q, 0.0, 0.5) for q in ("logit", "logit_start", "probability")]
    statistics.append(("kernels", "smoothness:conv", 1.0, 2.0))
    run = build_paper_run(
        path / name,
        "smoothkernel-2020",
        CORRECT,
        attacks,
        name=name,
        measurements=rows,
        statistics=statistics,
        settings=settings,
    )
    generator = np.random.default_rng(len(name))
    ids = ["image-0", "image-1"]
    write_arrays(
        run.array_file("fgsm", "00000"),
        {witness_key(i, np.nan): generator.random((1, 4, 4), dtype=np.float32) for i in ids},
    )
    images = {f"{kind}-0": generator.random((1, 4, 4), dtype=np.float32) for kind in ("start", "class")}
    write_arrays(run.array_file("activation-maximization", "00000"), images)
    kernels = {f"{k}/{i}": generator.standard_normal((1, 3, 3), dtype=np.float32) for k in ("kernel",) for i in (0, 1)}
    kernels |= {f"magnitude/{i}": generator.random((1, 8, 8), dtype=np.float32) for i in (0, 1)}
    write_arrays(run.array_file("kernels", "00000"), kernels)
    return run


def test_smoothkernels_galleries_have_every_model(tmp_path: Path) -> None:
    """Of the class, the image that is on average the most deceptive: the second, though
    one model is surer of the first."""
    runs = [smooth(tmp_path, "one", [0.9, 0.7]), smooth(tmp_path, "another", [0.3, 0.8])]
    plots = {
        plot.name.removeprefix("paper-smoothkernel-2020-"): plot for plot in paper_figures(runs, "smoothkernel-2020")
    }
    assert list(plots) == ["figure-1", "figure-2", "figure-3", "figure-7", "figure-8", "figure-9"]
    deceived = plots["figure-2"].data
    assert set(deceived["image_id"]) == {"image-1"}
    assert dict(zip(deceived["model"], deceived["confidence"], strict=True)) == {"one": 0.7, "another": 0.8}
    assert set(plots["figure-1"].data["model"]) == set(plots["figure-3"].data["model"]) == {"one", "another"}
    curves = plots["figure-9"].data
    own = curves[(curves["model"] == "one") & (curves["attack"] == "FGSM")]
    assert own[["distance", "share"]].to_numpy().tolist() == [[0.0, 0.75], [0.04, 0.5], [0.2, 0.25]]
    for plot in plots.values():
        save(plot, tmp_path / "figures")


def test_the_page_and_the_folder_have_the_figures(tmp_path: Path) -> None:
    runs = [opnorm(tmp_path, "one", 1.0), opnorm(tmp_path, "two", 2.0)]
    (page,) = write_paper_tables(runs, tmp_path / "out").values()
    text, marked = page.read_text(), page.with_suffix(".md").read_text()
    for name in ("figure-2", "figure-3", "figure-4", "figure-5"):
        base = tmp_path / "out" / "figures" / f"paper-opnorm-2020-{name}"
        assert all(base.with_suffix(end).exists() for end in (".svg", ".png"))
        assert set(pd.read_csv(base.with_suffix(".csv"))["model"]) == {"one", "two"}
        assert f"{base.name}.csv" in text
        assert f"(figures/{base.name}.png)" in marked
    assert text.count("<figure>") == 4


@pytest.mark.parametrize("protocol", ["opnorm-2020", "smoothkernel-2020"])
def test_nothing_measured_draws_nothing_and_evil_names_harm_nobody(tmp_path: Path, protocol: str) -> None:
    bare = build_paper_run(tmp_path / "bare", protocol, CORRECT, [], name=f"$x$ {EVIL}")
    assert paper_figures([bare], protocol) == []
    assert paper_figures([bare], "sgr-2019") == paper_figures([], protocol) == []
    make = opnorm if protocol.startswith("opnorm") else lambda path, name, scale: smooth(path, name, [0.5, 0.5])
    run = make(tmp_path, "one", 1.0)
    named = run.updated(model=run.manifest.model.model_copy(update={"name": f"$x$ {EVIL}" * 3}))
    (page,) = write_paper_tables([named, bare], tmp_path / "out").values()
    assert EVIL not in page.read_text()
