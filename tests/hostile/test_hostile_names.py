"""Hostile names in every place of a run, and all that is written of it looked at."""

from __future__ import annotations

import csv
import io
import json
import re
import shutil
import xml.etree.ElementTree as ElementTree
from html.parser import HTMLParser
from pathlib import Path

import pandas as pd
import pytest

from commands import here
from robusteval.cli.progress import Bars
from robusteval.cli.terminal import Terminal
from robusteval.core.foreign import dead, one_line, readable
from robusteval.core.plain_names import as_plain_name, plain_name, plain_path
from robusteval.reports import leaderboard as boards
from robusteval.reports import write_report
from robusteval.reports.certification.page import write_certification
from robusteval.reports.formats import latex, markdown
from robusteval.reports.grid import Grid
from robusteval.results.below import as_csv, write_below
from robusteval.results.manifest import NAME
from robusteval.results.run import Run
from run_fixture import build_run

HOSTILE = (
    *(
        "\x1b[31mred\x1b[0m",
        "\x1b]0;owned\x07",
        "\x1b]8;;http://x\x1b\\link",
        "\x9b31m",
        "\x9d0;x\x9c",
        "\x1b[2J",
        "\x1bc",
    ),
    *("a\rb", "a\x08\x08b", "a\x00b", "a\nerror: b", "a\tb", "a\x85b", "a\u2028b", "\x7f", "a\x0bb\x0cc"),
    *("\u202egnp.exe", "\u2066x\u2069", "\u200fx", "\u061cx", "\ufeffx", "\U000e0041x", "\ufffe", "\uffff", "\u200bx"),
    *(":smile:", "[red]x[/red]", "[/]", "[link=http://x]y[/link]", "\\[red]"),
    *("=cmd|' /C calc'!A0", "+1+1", "-1+1", "@SUM(1)", "\t=1", "\r=1", " =1", "\uff1d1", "|x", "%x", '=1,2"3'),
    *(
        "<script>alert(1)</script>",
        "</script><img src=x onerror=alert(1)>",
        "--><x>",
        "]]>",
        "&amp;&#x1b;",
        "' onload='x",
    ),
    *("a|b`c`*d*_e_", "[x](javascript:y)", "![x](http://y)", "$x^2$ \\input{/etc/passwd}", "%\\write18{x}", "~#{}&^_"),
    *("../../x", "/etc/x", "..", "con", "x" * 255, "\u0436\u4e2d\U0001f600", ""),
)
COMMANDS = {
    chr(i) for i in (*range(9), *range(11, 32), *range(127, 160), *range(0x202A, 0x202F), *range(0x2066, 0x206A))
}
BEHIND_ESC = re.compile(r"\x1b\[[\d;?]*[A-Za-z]")
"""What rich itself writes."""


def _renamed(path: Path, name: str) -> Run:
    """A run with a name in every place that takes a foreign one."""
    run = build_run(path)
    found = json.loads((path / NAME).read_text())
    found["model"] |= {"name": name, "path": name, "arch": name, "training": name}
    found["data"] |= {"source": name, "class_names": [name, "b", "c"]}
    found["protocol"]["description"] = name
    found["command"], found["device"], found["versions"] = ["robusteval", name], name, {name: name}
    for stage in found["stages"]:
        stage["title"] = f"{name}{stage['title'] if stage['name'] != 'pgd-linf' else ''}"
        stage["reason"] = name
    (path / NAME).write_text(json.dumps(found))
    first = run.table("images")["image_id"][0]
    for table in ("images", "witnesses", "certificates", "measurements", "bounds"):
        frame = run.table(table).replace({first: name})
        frame.to_parquet(path / "tables" / f"{table}.parquet")
    return Run.open(path)


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs of a few of the names, and everything that is written of them."""
    folder = tmp_path_factory.mktemp("names")
    for i, names in enumerate((HOSTILE[:9], HOSTILE[9:25], HOSTILE[25:42], HOSTILE[42:-1])):
        run = _renamed(folder / f"run{i}", " ".join(name[:40] for name in names))
        write_report(run)
        write_certification(run)
    boards.write_board(boards.leaderboard([Run.open(folder / f"run{i}") for i in range(4)]), folder / "board")
    return folder


def _texts(shown: Path, ending: str) -> dict[str, str]:
    found = {str(p.relative_to(shown)): p.read_text(encoding="utf-8") for p in shown.rglob(f"*.{ending}")}
    assert len(found) > 3
    return found


@pytest.mark.parametrize("ending", ["html", "md", "tex", "svg", "csv"])
def test_no_form_holds_a_command(shown: Path, ending: str) -> None:
    for where, text in _texts(shown, ending).items():
        assert not set(text) & COMMANDS, (where, set(text) & COMMANDS)


def test_figures_are_xml(shown: Path) -> None:
    for text in _texts(shown, "svg").values():
        ElementTree.fromstring(text)


class _Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, list[str]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, [name for name, _ in attrs]))


def test_pages_hold_no_tag_of_a_name(shown: Path) -> None:
    for where, text in _texts(shown, "html").items():
        page = _Tags()
        page.feed(text)
        assert {"html", "body", "table"} <= {tag for tag, _ in page.found}
        assert not [tag for tag, names in page.found if tag == "x" or any(n.startswith("on") for n in names)], where
        for data in re.findall(r'id="(?:image-data|images)">(.*?)</script>', text, re.DOTALL):
            tags = set(re.findall(r"<(\w+)", " ".join(str(c[0]) for row in json.loads(data)["rows"] for c in row)))
            assert tags <= {"b", "button", "img"}, where


def test_no_cell_is_a_formula(shown: Path) -> None:
    cells = 0
    for where, text in _texts(shown, "csv").items():
        for row in csv.reader(io.StringIO(text)):
            for cell in row:
                cells += 1
                if cell.lstrip()[:1] in ("=", "+", "-", "@") and cell != "-":
                    assert re.fullmatch(r"[-+]?[\d,.]+(e[-+]?\d+)?( ?%)?|-inf", cell), (where, cell)
    assert cells > 1000


@pytest.mark.parametrize("name", HOSTILE)
def test_each_name_in_each_form(name: str) -> None:
    assert not set(readable(name)) & COMMANDS
    assert "\n" not in one_line(name)
    ElementTree.fromstring(
        f"<!-- x --><a>{readable(name).replace('&', '&amp;').replace('<', '&lt;').replace('>', '&gt;')}</a>"
    )
    grid = Grid("t", ["a"], [[name], ["-0.5"]])
    assert not set(markdown.table(grid)) & COMMANDS
    tex = latex.table(grid)
    assert not re.search(r"\\(input|write)", tex)
    assert not set(tex) & COMMANDS
    [[heading], [cell], [number]] = csv.reader(io.StringIO(as_csv(pd.DataFrame({name: [name, "-0.5"]}))))
    assert heading == cell == dead(name)
    assert number == "-0.5"
    assert cell.lstrip()[:1] not in ("=", "+", "-", "@", "\uff1d")
    assert plain_name(as_plain_name(name)) == as_plain_name(name)


@pytest.mark.parametrize("name", HOSTILE)
def test_each_name_on_a_terminal(name: str) -> None:
    text = io.StringIO()
    terminal = Terminal()
    terminal.file = text
    terminal._force_terminal = True
    terminal._width = 300
    terminal.line("error:", name)
    terminal.print(name)
    terminal.rule(name)
    with Bars(terminal) as bars:
        bars.stage(name, 0, 2)
        bars.warn(name)
        bars.stopped(name, "failed")
    written = BEHIND_ESC.sub("", text.getvalue())
    assert not set(written.replace("\r", "")) & COMMANDS, written
    line = one_line(f"error: {name}").rstrip()
    assert line in written.replace("\r", "")


def test_the_command_line_says_names_as_they_are(tmp_path: Path) -> None:
    run = _renamed(tmp_path / "run", "\x1b]0;owned\x07 :smile: [red]x[/red] \u202eexe")
    done = here("report", run.path)
    assert done.returncode == 0
    assert not set(done.stdout + done.stderr) & COMMANDS
    assert ":smile: [red]x[/red]" in " ".join(done.stdout.split())
    for words in (
        ["audit", "x", "--data", "\x1b]0;y\x07[red]", "--out", "z"],
        ["report", "\x1b[2J:smile:"],
        ["\x1b[2J"],
    ):
        done = here(*words)
        assert done.returncode == 2
        assert not set(done.stdout + done.stderr) & COMMANDS, words


PATHS = (
    "x/../../../ESCAPED",
    "../x",
    "/etc/x",
    "a\\..\\b",
    "..",
    "",
    "a\0b",
    "con",
    "a/",
    " ",
    "\u202ex",
    "a.",
    "\x1b[2J",
    "y" * 300,
)


@pytest.mark.parametrize("name", PATHS)
@pytest.mark.parametrize("where", ["stage", "label", "witnesses", "protocol", "evidence"])
def test_a_path_in_a_manifest_is_refused(tmp_path: Path, name: str, where: str) -> None:
    run = build_run(tmp_path / "in" / "run")
    found = json.loads((run.path / NAME).read_text())
    match where:
        case "stage" | "label":
            found["stages"][1]["name" if where == "stage" else "label"] = name
        case "witnesses":
            found["stages"][-1]["witnesses"] = name
        case "protocol":
            found["protocol"]["name"] = name
        case _:
            found["evidence"] = {f"parts/{name}": "0"}
    (run.path / NAME).write_text(json.dumps(found))
    done = here("report", run.path)
    assert done.returncode == 2
    assert done.stderr.startswith("error: expected a manifest in ")
    assert len(done.stderr.splitlines()) == 1
    assert "plain name" in done.stderr
    assert not set(done.stderr) & COMMANDS


@pytest.mark.parametrize("link", ["figures", "tables", "witnesses", "parts", "report.html", "failures", NAME])
def test_a_link_in_a_run_is_not_followed(tmp_path: Path, link: str) -> None:
    run = build_run(tmp_path / "in" / "run")
    outside = tmp_path / "outside"
    outside.mkdir()
    target = outside / "kept"
    if (run.path / link).exists():
        shutil.move(run.path / link, target)
    else:
        target.write_text("kept")
    (run.path / link).symlink_to(target)
    before = {p: p.read_bytes() for p in outside.rglob("*") if p.is_file()}
    done = here("report", run.path)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "got a link" in done.stderr
    assert before == {p: p.read_bytes() for p in outside.rglob("*") if p.is_file()}


def test_writes_stay_below_their_folder(tmp_path: Path) -> None:
    folder, outside = tmp_path / "in", tmp_path / "outside"
    outside.mkdir()
    folder.mkdir()
    (folder / "figures").symlink_to(outside)
    (folder / "page.html").symlink_to(outside / "page.html")
    (outside / "page.html").write_text("kept")
    for name in ("../x", "/etc/x", "a/../../x", "figures/x", "", "a\0b", ".."):
        with pytest.raises(ValueError, match="expected to write below"):
            write_below(folder, name, "x")
    write_below(folder, "page.html", "new")
    assert (outside / "page.html").read_text() == "kept"
    assert (folder / "page.html").read_text() == "new"
    assert [p.name for p in outside.iterdir()] == ["page.html"]


def test_plain_names_are_kept() -> None:
    for name in ("pgd-linf", "transfer-from-a_b.c", "certify, certificates only", "a (b) + c", "\u0436x"):
        assert plain_name(name) == name
    assert plain_path("parts/pgd-linf/00000.parquet") == "parts/pgd-linf/00000.parquet"
    assert (dead("-0.5"), dead("-"), dead("12.3 %"), dead("-1e-05")) == ("-0.5", "-", "12.3 %", "-1e-05")


def test_there_are_enough_of_them() -> None:
    print(f"{len(HOSTILE)} names, {5 * len(PATHS)} paths in manifests")
    assert len(HOSTILE) >= 40
    assert len(set(HOSTILE)) == len(HOSTILE)
