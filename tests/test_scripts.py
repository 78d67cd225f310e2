"""The project's scripts are checked like the package, and start without an active environment."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

ROOT = Path(__file__).parents[1]
SCRIPTS = ROOT / "scripts"
PYTHON_SCRIPTS = sorted(
    path.name
    for path in SCRIPTS.iterdir()
    if path.is_file() and path.read_text(encoding="utf-8").startswith("#!/usr/bin/env python3")
)


def test_every_python_script_is_linted_and_typed():
    tools = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]
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


def read_yaml(name: str) -> Any:
    return YAML(typ="safe").load(ROOT / name)


def workflow_commands() -> list[str]:
    return read_yaml(".github/workflows/ci.yml")["jobs"]["script"]["strategy"]["matrix"]["command"]


def hook_commands() -> list[str]:
    return [hook["entry"] for repo in read_yaml(".pre-commit-config.yaml")["repos"] for hook in repo["hooks"]]


@pytest.mark.parametrize("commands", [workflow_commands, hook_commands])
def test_ci_and_hooks_call_scripts_that_exist(commands):
    assert len(commands()) >= 2
    for command in commands():
        path = ROOT / command.split()[0]
        assert path.parent == SCRIPTS, f"{command} is no script of the project"
        assert os.access(path, os.X_OK), command


def test_the_workflow_runs_what_the_ci_script_runs():
    lines = (ROOT / ".ci" / "run").read_text(encoding="utf-8").splitlines()
    assert workflow_commands() == [line for line in lines if re.match("scripts/", line)]
    steps = [step["run"] for step in read_yaml(".github/workflows/ci.yml")["jobs"]["script"]["steps"] if "run" in step]
    assert steps == ["${{ matrix.command }}"]


def test_the_table_of_packages_is_that_of_the_imports():
    done = subprocess.run([sys.executable, str(SCRIPTS / "imports"), "--check"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
