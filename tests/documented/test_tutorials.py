"""A tutorial is run as it stands: every block in order, in one folder, and what it shows is what it says."""

import re
import shlex
from pathlib import Path

import pytest
from blocks import ROOT, in_order
from processes import python, python_code

TUTORIALS = sorted((ROOT / "docs" / "tutorials").glob("*.md"))


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
