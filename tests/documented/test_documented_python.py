"""Every piece of Python that a page shows is run, in a folder with the names that it uses."""

from pathlib import Path

import pytest
from blocks import ROOT, Block, python_blocks
from processes import python_code
from stand_ins import copy_named


@pytest.mark.parametrize("block", python_blocks(), ids=lambda block: block.page)
def test_it_runs(block: Block, made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copy_named("base BASE TUNED alice poe classifier gpt2", made, tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FTKIT_BOOKS", str(made / "books"))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    done = python_code(block.text)
    assert done.returncode == 0, done.stdout + done.stderr
