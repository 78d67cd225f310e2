"""The project's scripts are checked like the package, and start without an active environment."""

import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).parents[1] / "scripts"
PYTHON_SCRIPTS = sorted(
    path.name
    for path in SCRIPTS.iterdir()
    if path.is_file() and path.read_text(encoding="utf-8").startswith("#!/usr/bin/env python3")
)


def test_every_python_script_is_linted_and_typed():
    tools = tomllib.loads((SCRIPTS.parent / "pyproject.toml").read_text(encoding="utf-8"))["tool"]
    assert len(PYTHON_SCRIPTS) >= 6
    for name in PYTHON_SCRIPTS:
        assert f"scripts/{name}" in tools["ruff"]["extend-include"], name
        assert f"scripts/{name}" in tools["mypy"]["files"], name


def without_libraries(folder: Path, name: str) -> subprocess.CompletedProcess[str]:
    """Start a copy of a script by a Python that has only the standard library."""
    (folder / "scripts").mkdir()
    for file in (name, "own_python.py"):
        shutil.copy(SCRIPTS / file, folder / "scripts")
    plain = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    command = [sys.executable, "-S", str(folder / "scripts" / name), "--help"]
    return subprocess.run(command, env=plain, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("name", PYTHON_SCRIPTS)
def test_a_script_without_its_libraries_starts_again_in_the_environment(name, tmp_path):
    python = tmp_path / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text('#!/bin/sh\necho "again: $*"\n', encoding="utf-8")
    python.chmod(0o755)
    assert without_libraries(tmp_path, name).stdout == f"again: {tmp_path}/scripts/{name} --help\n"


def test_a_script_without_environment_names_the_next_step(tmp_path):
    done = without_libraries(tmp_path, "bench")
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert "run scripts/setup" in done.stderr
