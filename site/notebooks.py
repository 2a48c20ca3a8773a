"""The notebooks of the documentation, executed: site/notebooks/NAME.py, cells parted by `# %%`, into docs/notebooks.

    python site/notebooks.py            # executes and writes them
    python site/notebooks.py --check    # executes them; an error where a committed one has other cells

What a notebook writes lands in a temporary folder.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

import nbclient
import nbformat

SOURCES = Path(__file__).parent / "notebooks"
EXECUTED = Path(__file__).parents[1] / "docs" / "notebooks"


def cells(source: str) -> list[nbformat.NotebookNode]:
    """Of a file in the percent format: Markdown behind `# `, and code."""
    found = []
    for part in source.split("# %%")[1:]:
        head, _, body = part.partition("\n")
        if head.strip() == "[markdown]":
            text = "\n".join(line.removeprefix("#").removeprefix(" ") for line in body.strip().split("\n"))
            found.append(nbformat.v4.new_markdown_cell(text))
        else:
            found.append(nbformat.v4.new_code_cell(body.strip()))
    for i, cell in enumerate(found):
        cell.id = f"cell-{i}"
    return found


def executed(source: str) -> nbformat.NotebookNode:
    """Raises nbclient.exceptions.CellExecutionError with the traceback of a cell that fails."""
    notebook = nbformat.v4.new_notebook(cells=cells(source))
    notebook.metadata.kernelspec = {"name": "python3", "display_name": "Python 3", "language": "python"}
    with tempfile.TemporaryDirectory() as folder:
        nbclient.NotebookClient(notebook, timeout=300, resources={"metadata": {"path": folder}}).execute()
    # When and by which Python is no part of what it says.
    notebook.metadata = {"kernelspec": notebook.metadata.kernelspec}
    for cell in notebook.cells:
        cell.metadata = {}
        if cell.cell_type == "code":
            cell.outputs = [o for o in cell.outputs if o.get("name") != "stderr"]
    return notebook


def main() -> int:
    parser = argparse.ArgumentParser(description="Execute the notebooks of the documentation.")
    parser.add_argument("--check", action="store_true", help="write nothing; fail where a committed notebook differs")
    check = parser.parse_args().check
    for path in sorted(SOURCES.glob("*.py")):
        notebook = executed(path.read_text(encoding="utf-8"))
        target = EXECUTED / f"{path.stem}.ipynb"
        if check:
            kept = nbformat.read(target, as_version=4)
            if [c.source for c in kept.cells] != [c.source for c in notebook.cells]:
                print(f"expected {target.name} with the cells of {path.name}: run `make notebooks`", file=sys.stderr)
                return 1
        else:
            target.write_text(nbformat.writes(notebook) + "\n", encoding="utf-8", newline="\n")
        print(f"{path.name}: executed")
    return 0


if __name__ == "__main__":
    sys.exit(main())
