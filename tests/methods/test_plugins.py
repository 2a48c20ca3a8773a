"""A package of its own adds an attack, a certificate and a metric through entry points, with no line of robusteval
changed: listed, audited, reported, verified; and missed by name where it is not installed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from commands import ROOT, WIDE, here, in_a_process
from robusteval.results.run import Run

PROJECT = """
[build-system]
requires = ["setuptools"]
build-backend = "setuptools.build_meta"

[project]
name = "greys"
version = "0.3"

[project.entry-points."robusteval.attacks"]
grey = "greys:Grey"

[project.entry-points."robusteval.certificates"]
grey-zone = "greys:GreyZone"

[project.entry-points."robusteval.metrics"]
greyness = "greys:Greyness"

[tool.setuptools]
py-modules = ["greys"]
"""
MODULE = '''
"""Methods about grey images."""

import torch
from torch import Tensor

from robusteval.attacks.base import Candidates, FixedBudgetAttack
from robusteval.attacks.search.ball import Ball
from robusteval.certify.base import Certificate, Radii, State
from robusteval.core.images import Images
from robusteval.core.methods import Guarantee, Quantity
from robusteval.core.norms import Norm
from robusteval.core.streams import Streams
from robusteval.metrics.base import ImageMetric, Measurement
from robusteval.models.classifier import Classifier


class Grey(FixedBudgetAttack):
    """One step towards grey."""

    name = "grey"
    title = "Fade to grey"
    summary = "one step towards a grey image"
    norms = (Norm.L2,)
    follows = "outputs"

    def within(self, classifier: Classifier, images: Images, budget: Tensor, streams: Streams) -> Candidates:
        ball = Ball.around(images.pixels, self.norm, budget)
        step = ball.step(1.0, self.norm.scale_to(0.5 - images.pixels, 1.0))
        return Candidates(ball.nearest(images.pixels + step))


class GreyZone(Certificate):
    """A thousandth, for each image that is right."""

    name = "grey-zone"
    title = "Zone of grey"
    summary = "a radius that is hardly one"
    norms = (Norm.L2,)
    kind = Guarantee.ESTIMATE

    def radii(self, classifier: Classifier, images: Images, state: State, streams: Streams) -> Radii:
        predicted = classifier.predict(images.pixels).argmax(1)
        radius = 1e-3 * (predicted == images.labels).double()
        return Radii(radius, predicted, torch.zeros_like(predicted, dtype=torch.bool))


class Greyness(ImageMetric):
    """How far an image is from grey."""

    name = "greyness"
    title = "Greyness of images"
    summary = "distance from a grey image"
    quantities = (Quantity(name="from_grey", title="distance from the grey image"),)

    def measure(
        self, classifier: Classifier, images: Images, witnesses: Tensor | None, streams: Streams
    ) -> list[Measurement]:
        return [Measurement("from_grey", 0, Norm.L2.size(images.pixels - 0.5).double())]
'''
PROTOCOL = """
[budgets]
l2 = [4.0]

[[attacks]]
method = "grey"

[[certificates]]
method = "grey-zone"

[[metrics]]
method = "greyness"
"""
TITLES = ("Fade to grey", "Zone of grey", "Greyness of images")


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the package is installed."""
    source, target = tmp_path_factory.mktemp("greys"), tmp_path_factory.mktemp("site")
    (source / "pyproject.toml").write_text(PROJECT)
    (source / "greys.py").write_text(MODULE)
    offline = ("--no-deps", "--no-build-isolation", "--no-index", "--quiet", "--disable-pip-version-check")
    command = [sys.executable, "-m", "pip", "install", *offline, "--target", str(target), str(source)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return target


@pytest.fixture(scope="module")
def audited(installed: Path, tmp_path_factory: pytest.TempPathFactory, demo_folder: Path) -> Path:
    """A run with the methods of the package, and its report."""
    folder = tmp_path_factory.mktemp("audited")
    (folder / "greys.toml").write_text(PROTOCOL)
    model = str(demo_folder / "digits-standard.safetensors")
    asked = ("--arch", "digits-cnn", "--data", "digits", "--limit", "20", "--protocol", str(folder / "greys.toml"))
    done = in_a_process("audit", model, *asked, "--out", str(folder / "run"), path=installed)
    assert done.returncode == 0, done.stderr
    return folder / "run"


LISTS = """
import sys
from robusteval.cli.app import app
for kind in sys.argv[1:]:
    app(["list", kind], standalone_mode=False)
"""


@pytest.fixture(scope="module")
def listed(installed: Path) -> list[str]:
    """The lines of three lists, where the package is installed."""
    environment = os.environ | WIDE | {"PYTHONPATH": f"{ROOT}{os.pathsep}{installed}"}
    command = [sys.executable, "-c", LISTS, "attacks", "certificates", "metrics"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@pytest.mark.parametrize(
    ("kind", "name", "summary"),
    [
        ("attacks", "grey", "one step towards a grey image"),
        ("certificates", "grey-zone", "a radius that is hardly one"),
        ("metrics", "greyness", "distance from a grey image"),
    ],
)
def test_the_list_names_them_and_their_package(listed: list[str], kind: str, name: str, summary: str) -> None:
    (line,) = (line for line in listed if line.split()[0] == name)
    assert f"{summary} [greys 0.3]" in line
    assert sum("[" in line for line in listed) == 3
    assert name not in here("list", kind).stdout


def test_a_package_that_is_broken_is_named_and_the_others_are_listed(installed: Path, tmp_path: Path) -> None:
    (tmp_path / "greys.py").write_text("1 / 0\n")
    done = in_a_process("list", "metrics", path=f"{tmp_path}{os.pathsep}{installed}")
    assert done.returncode == 0, done.stderr
    assert "expected greys:Greyness of greys for the metric 'greyness', got ZeroDivisionError" in done.stdout
    assert "jacobian-spectrum" in done.stdout


def test_an_audit_runs_them(audited: Path) -> None:
    run = Run.open(audited)
    assert set(run.table("witnesses")["method"]) == {"grey-l2"}
    assert run.table("witnesses")["success"].any()
    assert (run.table("certificates")["radius"] == 1e-3).any()
    measured = run.table("measurements")
    measured = measured[~measured["method"].isin(["sanity", "repeat"])]
    assert set(measured["quantity"]) == {"from_grey"}
    assert len(measured) == 20


@pytest.mark.parametrize("title", TITLES)
@pytest.mark.parametrize("file", ["report.html", "report.md"])
def test_the_report_shows_their_titles(audited: Path, file: str, title: str) -> None:
    assert title in (audited / file).read_text()


@pytest.mark.parametrize(("file", "cell"), [("report.html", '<td class="text">{}</td>'), ("report.md", "| {} |")])
def test_the_report_shows_the_quantity(audited: Path, file: str, cell: str) -> None:
    """In a cell of a table; the page holds the title among its data in any case."""
    assert cell.format("distance from the grey image") in (audited / file).read_text()


def test_the_run_is_verified_where_the_package_is(audited: Path, installed: Path) -> None:
    done = in_a_process("verify", str(audited), path=installed)
    assert done.returncode == 0, done.stderr
    assert "checked and hold" in done.stdout


def test_where_it_is_not_one_line_says_which_package_is_needed(audited: Path) -> None:
    done = here("verify", str(audited))
    assert done.returncode == 3
    (line, _) = [line for line in done.stderr.splitlines() if "values were" in line or "not checked:" in line]
    assert "expected the package greys 0.3 for the attack 'grey', which is not installed" in line


def test_another_version_is_not_the_one_that_was_audited(audited: Path, installed: Path, tmp_path: Path) -> None:
    (info,) = installed.glob("greys-*.dist-info")
    later = tmp_path / "greys-0.4.dist-info"
    later.mkdir()
    (later / "METADATA").write_text("Metadata-Version: 2.1\nName: greys\nVersion: 0.4\n")
    (later / "entry_points.txt").write_text((info / "entry_points.txt").read_text())
    (tmp_path / "greys.py").write_text(MODULE)
    done = in_a_process("verify", str(audited), path=tmp_path)
    assert done.returncode == 3
    (line, _) = [line for line in done.stderr.splitlines() if "values were" in line or "not checked:" in line]
    assert "expected the attack 'grey' of greys 0.3, got that of greys 0.4" in line
