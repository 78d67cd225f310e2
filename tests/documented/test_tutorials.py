"""A tutorial is run as it stands: every block in order, in one folder, and what it shows is what it says.

Notebooks are executed by a kernel of their own, from their first cell to their last.
"""

import os
import re
import shlex
import sys
from pathlib import Path

import pytest
from blocks import ROOT, in_order
from processes import python, python_code

TUTORIALS = sorted((ROOT / "docs" / "tutorials").glob("*.md"))
NOTEBOOKS = {
    "own_text.ipynb": ("tuned: WORKED (also: forgot)", "ftkit run: finetune", "tuned writes", "report.html"),
    "foreign_folder.ipynb": ("UNSURE", "ftkit verdict: unsure", "loss on held-out text", "verdict.html"),
}
"""What the outputs of each must have."""


def shape(line: str) -> str:
    """A line without its numbers and the width of its columns."""
    return " ".join(re.sub(r"[\d][\d.,]*", "#", line).split())


@pytest.mark.parametrize("page", TUTORIALS, ids=lambda page: page.stem)
def test_every_block_runs_and_says_what_the_page_says(page: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    said, compared = "", 0
    for block in in_order(page):
        if block.kind == "python":
            done = python_code(block.text)
            assert done.returncode == 0, done.stderr
            said = done.stdout
        elif block.kind == "indented":
            for line in block.text.splitlines():
                command, _, comment = line.partition("  #")
                done = python("-m", *shlex.split(command))
                expected = int(found[1]) if (found := re.search(r"leaves with (\d+)", comment)) else 0
                assert done.returncode == expected, f"{line}\n{done.stdout}{done.stderr}"
                said = done.stdout
        else:
            for line in block.text.splitlines():
                assert shape(line) in {shape(written) for written in said.splitlines()}, f"{line!r} is not in\n{said}"
                compared += 1
    assert compared > 5


@pytest.mark.filterwarnings("ignore")  # those of Jupyter's own packages
@pytest.mark.parametrize("name", NOTEBOOKS)
def test_every_cell_of_a_notebook_runs(name: str, tmp_path: Path, monkeypatch) -> None:
    nbclient = pytest.importorskip("nbclient", reason="nbclient is not installed; it is in the extra 'dev'")
    nbformat = pytest.importorskip("nbformat")
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    notebook = nbformat.read(ROOT / "docs" / "tutorials" / name, as_version=4)
    nbformat.validate(notebook)
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert all(cell.outputs == [] and cell.execution_count is None for cell in cells), "clear the outputs"
    nbclient.NotebookClient(notebook, timeout=800, resources={"metadata": {"path": str(tmp_path)}}).execute()
    outputs = [output for cell in cells for output in cell.outputs]
    shown = "".join(str(output.get("text", output.get("data"))) for output in outputs)
    assert [text for text in NOTEBOOKS[name] if text not in shown] == [], shown[-3000:]


def test_all_notebooks_of_the_tutorials_are_run() -> None:
    assert {path.name for path in (ROOT / "docs" / "tutorials").glob("*.ipynb")} == {*NOTEBOOKS}
